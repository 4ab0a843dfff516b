#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "encoders/feature_map.hpp"

namespace gemlet {

/// A picture of 8 bits a channel: red, green, blue of each pixel side by side.
struct Rgb8 {
  const std::uint8_t* pixels = nullptr;
  std::size_t width = 0;
  std::size_t height = 0;
  std::size_t stride = 0;  ///< bytes from one row to the next
};

/// The same picture at width x height, whatever its aspect: bilinear with anti-aliasing, as Pillow's resize() computes
/// it to the bit (Resample.c: weights of 22 bits, rounded to 8 bits after each of its two passes, in the order of its version 13). Returns
/// uint8[height][width][3].
std::vector<std::uint8_t> resize(const Rgb8& picture, std::size_t width, std::size_t height);

/// What the vision encoders take: resized to a square, in [0, 1].
FeatureMap prepare_picture(const Rgb8& picture, std::size_t size);

}  // namespace gemlet
