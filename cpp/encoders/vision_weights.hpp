#pragma once

#include <cstddef>
#include <string>
#include <variant>
#include <vector>

#include "format/reader.hpp"
#include "tensor/tensor.hpp"

namespace gemlet {

/// Sides of a depthwise convolution's kernel.
inline constexpr std::size_t max_vision_kernel = 9;

/// A k x k convolution over all channels, as a matrix: [out channels, in channels * k * k].
struct ConvWeights {
  Matrix conv;
  std::size_t kernel = 1;
  std::vector<float> norm;  // [out channels]

  bool present() const { return conv.data != nullptr; }
};

/// One of each channel on its own.
struct DepthwiseWeights {
  std::vector<float> conv;  // [kernel * kernel][channels]: transposed, for the kernel
  std::size_t kernel = 0;
  std::vector<float> norm;  // [channels]

  bool present() const { return kernel != 0; }
};

/// timm's EdgeResidual ("ER"): 3x3 convolution, norm, GELU, 1x1 convolution, norm.
struct EdgeResidualWeights {
  ConvWeights conv_exp;
  ConvWeights conv_pwl;
};

/// timm's UniversalInvertedResidual ("UIR"). Either depthwise convolution may be missing; dw_mid halves the map.
struct InvertedResidualWeights {
  DepthwiseWeights dw_start;
  ConvWeights pw_exp;
  DepthwiseWeights dw_mid;
  ConvWeights pw_proj;
  std::vector<float> gamma;  // [out channels]
};

/// timm's MobileAttention with one head of keys and values. With down-sampling convolutions they are those of a quarter
/// of the pixels.
struct MobileAttentionWeights {
  std::vector<float> norm;  // [channels]
  Matrix query;             // [heads * head_dim, channels]
  DepthwiseWeights key_down, value_down;
  Matrix key, value;  // [head_dim, channels]
  Matrix output;      // [channels, heads * head_dim]
  std::vector<float> gamma;
};

using VisionBlockWeights = std::variant<EdgeResidualWeights, InvertedResidualWeights, MobileAttentionWeights>;

struct VisionWeights {
  ConvWeights stem;
  std::vector<float> stem_bias;                         // [channels]; zeros in the oldest checkpoints, which lack it
  std::vector<std::vector<VisionBlockWeights>> stages;  // the first block of each halves the map
  ConvWeights fusion_exp, fusion_proj;
  std::vector<float> fusion_norm;

  std::size_t width() const { return fusion_norm.size(); }  ///< of what comes out
};

/// Views into the mapped file, by llama.cpp's names ("v.blk.1.0.dw_start.conv.weight"), every shape checked. A 1x1
/// convolution may be a matrix or have four dimensions. Throws Error naming the tensor.
VisionWeights read_vision_weights(const Reader& read);

}  // namespace gemlet
