#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "encoders/feature_map.hpp"
#include "gemlet/media.hpp"

namespace gemlet {

std::size_t bytes_per_pixel(PixelFormat format);

/// Throws Error(argument) for a picture of no pixels or of more than 65536 each way, or whose rows overlap or do not
/// fit in memory.
void check_picture(const Picture& picture);

/// The rows of a picture as red, green and blue side by side, converted one at a time.
class RgbRows {
 public:
  explicit RgbRows(const Picture& picture) : picture_(picture) {}

  /// uint8[width][3], valid until the next call.
  const std::uint8_t* row(std::size_t y);

 private:
  Picture picture_;
  std::vector<std::uint8_t> converted_;
};

/// The same picture at width x height, whatever its aspect: bilinear with anti-aliasing, as Pillow's resize() computes
/// it to the bit (Resample.c: weights of 22 bits, rounded to 8 bits after each of its two passes, in the order of its
/// version 13). Returns uint8[height][width][3].
///
/// Throws what check_picture() does, also for the size: sums of 32 bits would overflow; and Error(cancelled).
std::vector<std::uint8_t> resize(const Picture& picture, std::size_t width, std::size_t height,
                                 const Cancel* cancel = nullptr);

/// What a vision encoder subtracts from red, green and blue in [0, 1], and divides them by then.
struct PixelScale {
  std::array<float, 3> mean{0, 0, 0};
  std::array<float, 3> deviation{1, 1, 1};
};

/// The floats of a square, uint8[size][size][3].
FeatureMap to_feature_map(std::span<const std::uint8_t> pixels, std::size_t size, const PixelScale& scale = {});

}  // namespace gemlet
