#include "kernels/dequantize.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "kernels/half.hpp"

// Floats and the types with one scale for 32 weights.
namespace gemlet::kernels {
namespace {

// Code i of Q5_0 and Q5_1.
template <typename Block>
int five_bits(const Block& block, std::size_t i) {
  const int nibble = (block.nibbles[i % 16] >> (4 * (i / 16))) & 15;
  return nibble | ((block.high[i / 8] >> (i % 8)) & 1) << 4;
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

}  // namespace gemlet::kernels
