#include "kernels/dequantize.hpp"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>

#include "kernels/half.hpp"

// Floats and the types of simple blocks.
namespace gemlet::kernels {
namespace {

// Code i of Q5_0 and Q5_1.
template <typename Block>
int five_bits(const Block& block, std::size_t i) {
  const int nibble = (block.nibbles[i % 16] >> (4 * (i / 16))) & 15;
  return nibble | ((block.high[i / 8] >> (i % 8)) & 1) << 4;
}

// 2^(exponent - 128); the two smallest are denormal.
float mxfp4_scale(std::uint8_t exponent) {
  const std::uint32_t bits = exponent < 2 ? 0x00200000U << exponent : (exponent - 1U) << 23;
  return std::bit_cast<float>(bits);
}

// Half of an unsigned E4M3 float. The sign bit is ignored, and the code of a NaN is zero, as in ggml.
float nvfp4_scale(std::uint8_t e4m3) {
  if (e4m3 == 0x7F) return 0;
  const int exponent = (e4m3 >> 3) & 15;
  const int mantissa = e4m3 & 7;
  return exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -10)
                       : std::ldexp(static_cast<float>(8 + mantissa), exponent - 11);
}

}  // namespace

void dequantize_f32(const void* row, float* out, std::size_t n) { std::memcpy(out, row, n * sizeof(float)); }

void dequantize_f16(const void* row, float* out, std::size_t n) {
  const auto* x = static_cast<const std::uint16_t*>(row);
  std::transform(x, x + n, out, half_to_float);
}

void dequantize_bf16(const void* row, float* out, std::size_t n) {
  const auto* x = static_cast<const std::uint16_t*>(row);
  std::transform(x, x + n, out, bfloat_to_float);
}

void dequantize_q4_0(const void* row, float* out, std::size_t n) {
  assert(n % 32 == 0);
  const auto* block = static_cast<const BlockQ4_0*>(row);
  for (const float* end = out + n; out != end; out += 32, ++block) {
    const float d = half_to_float(block->d);
    for (std::size_t i = 0; i < 16; ++i) {
      out[i] = d * static_cast<float>((block->nibbles[i] & 15) - 8);
      out[i + 16] = d * static_cast<float>((block->nibbles[i] >> 4) - 8);
    }
  }
}

void dequantize_q4_1(const void* row, float* out, std::size_t n) {
  assert(n % 32 == 0);
  const auto* block = static_cast<const BlockQ4_1*>(row);
  for (const float* end = out + n; out != end; out += 32, ++block) {
    const float d = half_to_float(block->d);
    const float m = half_to_float(block->m);
    for (std::size_t i = 0; i < 16; ++i) {
      out[i] = d * static_cast<float>(block->nibbles[i] & 15) + m;
      out[i + 16] = d * static_cast<float>(block->nibbles[i] >> 4) + m;
    }
  }
}

void dequantize_q5_0(const void* row, float* out, std::size_t n) {
  assert(n % 32 == 0);
  const auto* block = static_cast<const BlockQ5_0*>(row);
  for (const float* end = out + n; out != end; out += 32, ++block) {
    const float d = half_to_float(block->d);
    for (std::size_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(five_bits(*block, i) - 16);
  }
}

void dequantize_q5_1(const void* row, float* out, std::size_t n) {
  assert(n % 32 == 0);
  const auto* block = static_cast<const BlockQ5_1*>(row);
  for (const float* end = out + n; out != end; out += 32, ++block) {
    const float d = half_to_float(block->d);
    const float m = half_to_float(block->m);
    for (std::size_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(five_bits(*block, i)) + m;
  }
}

void dequantize_q8_0(const void* row, float* out, std::size_t n) {
  assert(n % 32 == 0);
  const auto* block = static_cast<const BlockQ8_0*>(row);
  for (const float* end = out + n; out != end; out += 32, ++block) {
    const float d = half_to_float(block->d);
    for (std::size_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(block->q[i]);
  }
}

void dequantize_iq4_nl(const void* row, float* out, std::size_t n) {
  assert(n % 32 == 0);
  const auto* block = static_cast<const BlockIQ4_NL*>(row);
  for (const float* end = out + n; out != end; out += 32, ++block) {
    const float d = half_to_float(block->d);
    for (std::size_t i = 0; i < 16; ++i) {
      out[i] = d * static_cast<float>(iq4_values[block->nibbles[i] & 15]);
      out[i + 16] = d * static_cast<float>(iq4_values[block->nibbles[i] >> 4]);
    }
  }
}

void dequantize_mxfp4(const void* row, float* out, std::size_t n) {
  assert(n % 32 == 0);
  const auto* block = static_cast<const BlockMXFP4*>(row);
  for (const float* end = out + n; out != end; out += 32, ++block) {
    const float d = mxfp4_scale(block->exponent);
    for (std::size_t i = 0; i < 16; ++i) {
      out[i] = d * static_cast<float>(fp4_values[block->nibbles[i] & 15]);
      out[i + 16] = d * static_cast<float>(fp4_values[block->nibbles[i] >> 4]);
    }
  }
}

void dequantize_nvfp4(const void* row, float* out, std::size_t n) {
  assert(n % 64 == 0);
  const auto* block = static_cast<const BlockNVFP4*>(row);
  for (const float* end = out + n; out != end; out += 64, ++block) {
    for (std::size_t i = 0; i < 64; ++i) {
      const int nibble = (block->nibbles[8 * (i / 16) + i % 8] >> (4 * (i % 16 / 8))) & 15;
      out[i] = nvfp4_scale(block->scales[i / 16]) * static_cast<float>(fp4_values[nibble]);
    }
  }
}

void dequantize_q1_0(const void* row, float* out, std::size_t n) {
  assert(n % 128 == 0);
  const auto* block = static_cast<const BlockQ1_0*>(row);
  for (const float* end = out + n; out != end; out += 128, ++block) {
    const float d = half_to_float(block->d);
    for (std::size_t i = 0; i < 128; ++i) out[i] = ((block->bits[i / 8] >> (i % 8)) & 1) != 0 ? d : -d;
  }
}

void dequantize_tq2_0(const void* row, float* out, std::size_t n) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const BlockTQ2_0*>(row);
  for (const float* end = out + n; out != end; out += 256, ++block) {
    const float d = half_to_float(block->d);
    for (std::size_t i = 0; i < 256; ++i) {
      const int code = (block->codes[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32))) & 3;
      out[i] = d * static_cast<float>(code - 1);
    }
  }
}

}  // namespace gemlet::kernels
