#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "encoders/picture.hpp"
#include "format/reader.hpp"
#include "tensor/tensor.hpp"

namespace gemlet {

/// A matrix and what is added to its product.
struct BiasedMatrix {
  Matrix matrix;
  std::vector<float> bias;  // [matrix.rows]
};

struct LayerNormWeights {
  std::vector<float> weight, bias;  // [width]
};

struct SiglipBlockWeights {
  LayerNormWeights layer_norm1;
  BiasedMatrix q_proj, k_proj, v_proj, out_proj;  // [width, width]
  LayerNormWeights layer_norm2;
  BiasedMatrix fc1, fc2;  // [ffn, width], [width, ffn]
};

struct SiglipWeights {
  std::size_t image_size = 0;  // pixels of a side of the picture
  std::size_t patch_size = 0;
  std::size_t pool = 0;  // patches of a side of the square that one soft token stands for
  std::size_t heads = 0;
  float norm_eps = 0;
  PixelScale pixels;

  BiasedMatrix patch_embedding;  // [width, 3 * patch_size * patch_size]
  Matrix position_embedding;     // [patches, width]
  std::vector<SiglipBlockWeights> blocks;
  LayerNormWeights post_layernorm;
  std::vector<float> soft_norm;  // [width]
  Matrix projection;             // [width, hidden]: transposed, x times it

  std::size_t side() const { return image_size / patch_size; }  // patches
  std::size_t width() const { return soft_norm.size(); }
};

/// Views into the mapped file, by llama.cpp's names ("v.blk.0.attn_q.weight"), every shape checked. Files in which
/// ffn_up and ffn_down have each other's names, as older ones do, are told by their shapes. Throws Error naming the key
/// or tensor.
SiglipWeights read_siglip_weights(const Reader& read);

}  // namespace gemlet
