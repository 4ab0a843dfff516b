#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "encoders/vision_encoder.hpp"
#include "encoders/vision_siglip_weights.hpp"

namespace gemlet {

/// Gemma 3's vision encoder (transformers' SiglipVisionModel and the projector behind it): a picture of 896 pixels
/// becomes 256 soft tokens.
class VisionSiglip : public VisionEncoder {
 public:
  /// As VisionEncoder::read(). Throws Error(unsupported) for an encoder with the same tensors and another projector.
  explicit VisionSiglip(const GgufFile& file);

  /// Whether the file holds a vision transformer; whether it is this one, the constructor tells.
  static bool is_in(const GgufFile& file);

  const Shape& shape() const override { return shape_; }

 private:
  std::vector<float> run(std::span<const std::uint8_t> pixels, std::size_t size, Compute& compute, const Cancel* cancel,
                         const std::function<void(float)>& progress) const override;
  /// Averages of squares of patches, norm and projection.
  std::vector<float> project(const std::vector<float>& patches, Compute& compute) const;

  SiglipWeights weights_;
  Shape shape_;
};

}  // namespace gemlet
