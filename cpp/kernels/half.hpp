#pragma once

#include <bit>
#include <cstdint>

// Conversions between float and the 16-bit floats, for the files compiled for the baseline instruction set. They have
// internal linkage, so that no copy compiled for a newer set can take the place of a baseline one at link time.
namespace gemlet::kernels {

static inline float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16;
  const std::uint32_t exponent = half & 0x7C00U;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(half & 0x7FFFU) << 13;
  if (exponent == 0) {  // zero and denormals: mantissa * 2^-24, exact in float
    const float value = static_cast<float>(half & 0x3FFU) * 0x1p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(value));
  }
  if (exponent == 0x7C00U) {
    const std::uint32_t quiet = (half & 0x3FFU) != 0 ? 0x400000U : 0;
    return std::bit_cast<float>(sign | 0x7F800000U | magnitude | quiet);
  }
  return std::bit_cast<float>(sign | (magnitude + (112U << 23)));
}

/// Round to nearest even; too large becomes infinity; a NaN stays a quiet NaN with the top bits of its payload.
static inline std::uint16_t float_to_half(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<std::uint16_t>(sign | 0x7E00U | ((magnitude >> 13) & 0x3FFU));
  if (magnitude >= 0x47800000U) return static_cast<std::uint16_t>(sign | 0x7C00U);  // >= 65536
  if (magnitude < 0x38800000U) {  // below 2^-14: adding 0.5 leaves the rounded denormal in the last mantissa bits
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000U));
  }
  magnitude += 0xFFFU + ((magnitude >> 13) & 1U) - (112U << 23);  // may carry into infinity, rightly
  return static_cast<std::uint16_t>(sign | (magnitude >> 13));
}

static inline float bfloat_to_float(std::uint16_t bfloat) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bfloat) << 16);
}

/// Round to nearest even; a NaN becomes quiet.
static inline std::uint16_t float_to_bfloat(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>((bits >> 16) | 64U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

}  // namespace gemlet::kernels
