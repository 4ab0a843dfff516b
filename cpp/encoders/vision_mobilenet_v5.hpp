#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "encoders/soft_tokens.hpp"
#include "encoders/vision_encoder.hpp"
#include "encoders/vision_weights.hpp"

namespace gemlet {

/// Gemma 3n's vision encoder (timm, mobilenetv5_300m_enc): a picture of 256, 512 or 768 pixels becomes 256 soft tokens.
class VisionMobileNetV5 : public VisionEncoder {
 public:
  /// As VisionEncoder::read().
  explicit VisionMobileNetV5(const GgufFile& file);

  /// Whether the file holds this vision encoder.
  static bool is_in(const GgufFile& file);

  const Shape& shape() const override { return shape_; }

 private:
  std::vector<float> run(std::span<const std::uint8_t> pixels, std::size_t size, Compute& compute, const Cancel* cancel,
                         const std::function<void(float)>& progress) const override;

  VisionWeights weights_;
  SoftTokens soft_tokens_;
  Shape shape_;
};

}  // namespace gemlet
