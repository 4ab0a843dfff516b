#pragma once

#include <cstddef>
#include <vector>

#include "format/reader.hpp"
#include "tensor/tensor.hpp"

namespace gemlet {

/// Sizes of Gemma 3n's audio encoder, read off its tensors. The comments give the published ones.
struct AudioShape {
  std::size_t mel_bins = 0;           // 128
  std::size_t conv_channels[2] = {};  // 128, 32
  std::size_t width = 0;              // 1536
  std::size_t heads = 0;              // 8
  std::size_t head_dim = 0;           // 192
  std::size_t ffn = 0;                // 6144
  std::size_t kernel = 0;             // 5, of the light convolution

  /// Places along the mel axis after `convs` convolutions with stride 2.
  std::size_t conv_width(std::size_t convs) const {
    return convs == 0 ? mel_bins : (conv_width(convs - 1) - 1) / 2 + 1;
  }
};

/// A 3x3 convolution with stride 2 as a matrix: [out channels, in channels * 3 (time) * 3 (mel)].
struct AudioConvWeights {
  Matrix conv;
  std::vector<float> norm;  // [out channels]
};

struct AudioFeedForwardWeights {
  std::vector<float> pre_layer_norm;   // [width]
  Matrix ffw_layer_1;                  // [ffn, width]
  Matrix ffw_layer_2;                  // [width, ffn]
  std::vector<float> post_layer_norm;  // [width]
};

struct AudioBlockWeights {
  AudioFeedForwardWeights ffw_layer_start;
  std::vector<float> pre_attn_norm;     // [width]
  Matrix q_proj, k_proj, v_proj, post;  // [width, width]
  Matrix pos_proj;                      // [width, width]
  std::vector<float> per_dim_scale;     // [head_dim]
  std::vector<float> post_norm;         // [width]
  std::vector<float> lconv_pre_norm;    // [width]
  Matrix linear_start;                  // [2 * width, width]
  std::vector<float> depthwise;         // [kernel, width]: transposed, for the kernel
  std::vector<float> conv_norm;         // [width]
  Matrix linear_end;                    // [width, width]
  AudioFeedForwardWeights ffw_layer_end;
  std::vector<float> norm;  // [width]
};

struct AudioWeights {
  AudioShape shape;
  AudioConvWeights convs[2];
  Matrix input_proj;  // [width, mel places * channels]
  std::vector<AudioBlockWeights> blocks;
};

/// Views into the mapped file, by llama.cpp's names ("a.blk.0.ffn_up.weight"), every shape checked. Throws Error naming
/// the tensor.
AudioWeights read_audio_weights(const Reader& read);

}  // namespace gemlet
