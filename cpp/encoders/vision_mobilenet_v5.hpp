#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "encoders/feature_map.hpp"
#include "encoders/soft_tokens.hpp"
#include "encoders/vision_weights.hpp"
#include "format/gguf.hpp"
#include "gemlet/gemlet.hpp"
#include "tensor/compute.hpp"

namespace gemlet {

/// Gemma 3n's vision encoder (timm, mobilenetv5_300m_enc): a square picture of 256, 512 or 768 pixels becomes 256 soft
/// tokens, row by row.
///
/// Immutable; any number of pictures may be encoded at once, each with a Compute of its own.
class VisionMobileNetV5 {
 public:
  static constexpr std::size_t map_size = 16;
  static constexpr std::size_t tokens = map_size * map_size;
  static constexpr std::size_t size_step =
      256;  ///< of the picture: a map of 16 x 16 must remain, or two or three as wide
  static constexpr std::size_t max_size = 768;

  /// Refers to the file, a model with its encoders or a separate one (an "mmproj"), which must outlive this. Throws
  /// Error naming the key or tensor.
  explicit VisionMobileNetV5(const GgufFile& file);

  /// Whether the file holds this vision encoder.
  static bool is_in(const GgufFile& file);

  const SoftTokens& soft_tokens() const { return soft_tokens_; }

  /// The piece in front of a picture; the mark behind it is the last row.
  static constexpr const char* begin = "<start_of_image>";

  /// `picture` is square, of 3 channels (red, green, blue) in [0, 1]; returns float[tokens + 1][hidden size], the last
  /// one a hard token that marks the end. `progress` is called with the share of blocks that are done. Throws
  /// Error(cancelled).
  std::vector<float> encode(const FeatureMap& picture, Compute& compute, const Cancel* cancel = nullptr,
                            const std::function<void(float)>& progress = {}) const;

 private:
  VisionWeights weights_;
  SoftTokens soft_tokens_;
};

}  // namespace gemlet
