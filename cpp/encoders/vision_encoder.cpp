#include "encoders/vision_encoder.hpp"

#include <algorithm>
#include <string>

#include "encoders/vision_mobilenet_v5.hpp"
#include "encoders/vision_siglip.hpp"

namespace gemlet {
namespace {

/// "256, 512 or 768"
std::string listed(const std::vector<std::size_t>& sizes) {
  std::string out;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (i > 0) out += i + 1 == sizes.size() ? " or " : ", ";
    out += std::to_string(sizes[i]);
  }
  return out;
}

}  // namespace

std::unique_ptr<const VisionEncoder> VisionEncoder::read(const GgufFile& file) {
  if (VisionMobileNetV5::is_in(file)) return std::make_unique<VisionMobileNetV5>(file);
  if (VisionSiglip::is_in(file)) return std::make_unique<VisionSiglip>(file);
  return nullptr;
}

void VisionEncoder::check_size(long long size) const {
  const std::vector<std::size_t>& sizes = shape().sizes;
  const bool known =
      std::any_of(sizes.begin(), sizes.end(), [&](std::size_t taken) { return static_cast<long long>(taken) == size; });
  if (known) return;
  throw Error(Error::Kind::argument, "size is " + std::to_string(size) + ", expected " + listed(sizes));
}

std::vector<float> VisionEncoder::encode(std::span<const std::uint8_t> pixels, std::size_t size, Compute& compute,
                                         const Cancel* cancel, const std::function<void(float)>& progress) const {
  check_size(static_cast<long long>(size));
  if (pixels.size() != 3 * size * size) {
    throw Error(Error::Kind::argument, std::to_string(pixels.size()) + " bytes for a picture of " +
                                           std::to_string(size) + " x " + std::to_string(size) + " pixels of 3 bytes");
  }
  return run(pixels, size, compute, cancel, progress);
}

}  // namespace gemlet
