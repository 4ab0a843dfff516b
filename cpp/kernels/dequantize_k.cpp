#include <cassert>

#include "kernels/dequantize.hpp"
#include "kernels/half.hpp"

// The types with scales of their own for the sub-blocks of 256 weights: the K-quants and IQ4_XS.
namespace gemlet::kernels {
namespace {

struct ScaleMin {
  int scale;
  int min;
};

// Sub-block j < 8 of the twelve bytes in which Q4_K and Q5_K keep eight 6-bit scales and eight 6-bit mins.
ScaleMin scale_min(const std::uint8_t* packed, std::size_t j) {
  if (j < 4) return {packed[j] & 63, packed[j + 4] & 63};
  return {(packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4), (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4)};
}

// The two bits of weight i of Q2_K and Q3_K.
int two_bits(const std::uint8_t* codes, std::size_t i) {
  return (codes[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32))) & 3;
}

// Scale g < 16 of the twelve bytes of Q3_K: low four bits in the nibbles of the first eight, high two in the others.
int scale_q3_k(const std::uint8_t* packed, std::size_t g) {
  return ((packed[g % 8] >> (4 * (g / 8))) & 15) | ((packed[8 + g % 4] >> (2 * (g / 4))) & 3) << 4;
}

}  // namespace

void dequantize_q2_k(const void* row, float* out, std::size_t n) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const BlockQ2_K*>(row);
  for (const float* end = out + n; out != end; out += 256, ++block) {
    for (std::size_t i = 0; i < 256; ++i) {
      const float d = half_to_float(block->d) * static_cast<float>(block->scales[i / 16] & 15);
      const float m = half_to_float(block->dmin) * static_cast<float>(block->scales[i / 16] >> 4);
      out[i] = d * static_cast<float>(two_bits(block->codes, i)) - m;
    }
  }
}

void dequantize_q3_k(const void* row, float* out, std::size_t n) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const BlockQ3_K*>(row);
  for (const float* end = out + n; out != end; out += 256, ++block) {
    for (std::size_t i = 0; i < 256; ++i) {
      const float d = half_to_float(block->d) * static_cast<float>(scale_q3_k(block->scales, i / 16) - 32);
      const int code = two_bits(block->low, i) | ((block->high[i % 32] >> (i / 32)) & 1) << 2;
      out[i] = d * static_cast<float>(code - 4);
    }
  }
}

void dequantize_q4_k(const void* row, float* out, std::size_t n) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const BlockQ4_K*>(row);
  for (const float* end = out + n; out != end; out += 256, ++block) {
    for (std::size_t j = 0; j < 8; ++j) {
      const auto [scale, min] = scale_min(block->scales, j);
      const float d = half_to_float(block->d) * static_cast<float>(scale);
      const float m = half_to_float(block->dmin) * static_cast<float>(min);
      for (std::size_t i = 0; i < 32; ++i) {
        const int nibble = (block->nibbles[32 * (j / 2) + i] >> (4 * (j % 2))) & 15;
        out[32 * j + i] = d * static_cast<float>(nibble) - m;
      }
    }
  }
}

void dequantize_q5_k(const void* row, float* out, std::size_t n) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const BlockQ5_K*>(row);
  for (const float* end = out + n; out != end; out += 256, ++block) {
    for (std::size_t j = 0; j < 8; ++j) {
      const auto [scale, min] = scale_min(block->scales, j);
      const float d = half_to_float(block->d) * static_cast<float>(scale);
      const float m = half_to_float(block->dmin) * static_cast<float>(min);
      for (std::size_t i = 0; i < 32; ++i) {
        const int nibble = (block->nibbles[32 * (j / 2) + i] >> (4 * (j % 2))) & 15;
        const int fifth = (block->high[i] >> j) & 1;
        out[32 * j + i] = d * static_cast<float>(nibble + 16 * fifth) - m;
      }
    }
  }
}

void dequantize_q6_k(const void* row, float* out, std::size_t n) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const BlockQ6_K*>(row);
  for (const float* end = out + n; out != end; out += 256, ++block) {
    for (std::size_t i = 0; i < 256; ++i) {
      const std::size_t half = i / 128;          // of the block
      const std::size_t quarter = i % 128 / 32;  // of that half
      const std::size_t low = 64 * half + 32 * (quarter % 2) + i % 32;
      const int code = ((block->low[low] >> (4 * (quarter / 2))) & 15) |
                       (((block->high[32 * half + i % 32] >> (2 * quarter)) & 3) << 4);
      out[i] = half_to_float(block->d) * static_cast<float>(block->scales[i / 16]) * static_cast<float>(code - 32);
    }
  }
}

void dequantize_iq4_xs(const void* row, float* out, std::size_t n) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const BlockIQ4_XS*>(row);
  for (const float* end = out + n; out != end; out += 256, ++block) {
    for (std::size_t j = 0; j < 8; ++j) {
      const int scale = ((block->scales_low[j / 2] >> (4 * (j % 2))) & 15) | ((block->scales_high >> (2 * j)) & 3) << 4;
      const float d = half_to_float(block->d) * static_cast<float>(scale - 32);
      for (std::size_t i = 0; i < 32; ++i) {
        const int nibble = (block->nibbles[16 * j + i % 16] >> (4 * (i / 16))) & 15;
        out[32 * j + i] = d * static_cast<float>(iq4_values[nibble]);
      }
    }
  }
}

}  // namespace gemlet::kernels
