#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>

#include "kernels/dequantize.hpp"
#include "kernels/half.hpp"

// Types of one, two or three values, and of 4-bit floats, as codes and scales.
namespace gemlet::kernels {
namespace {

void set_scales(DecodedBlock& out, float scale) { out.scales[0] = out.scales[1] = scale; }

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

void decode_q1_0(const void* row, DecodedBlock* out, std::size_t n) {
  assert(n % 128 == 0);
  const auto* block = static_cast<const BlockQ1_0*>(row);
  for (const DecodedBlock* end = out + n / 32; out != end; ++block) {
    for (std::size_t part = 0; part < 4; ++part, ++out) {
      set_scales(*out, half_to_float(block->d));
      for (std::size_t i = 0; i < 32; ++i) {
        const int bit = (block->bits[4 * part + i / 8] >> (i % 8)) & 1;
        out->q[i] = static_cast<std::int8_t>(2 * bit - 1);
      }
    }
  }
}

void decode_tq1_0(const void* row, DecodedBlock* out, std::size_t n) {
  assert(n % 256 == 0);
  constexpr std::uint8_t powers[] = {1, 3, 9, 27, 81};
  // A byte is a fraction of 256: times 3^k, what is left of its integer part is digit k and those after it.
  const auto digit = [](std::uint8_t byte, std::uint8_t power) {
    return static_cast<std::int8_t>((static_cast<std::uint8_t>(byte * power) * 3 >> 8) - 1);
  };
  const auto* block = static_cast<const BlockTQ1_0*>(row);
  for (const DecodedBlock* end = out + n / 32; out != end; out += 8, ++block) {
    std::int8_t q[256];
    for (std::size_t k = 0; k < 5; ++k) {
      for (std::size_t i = 0; i < 32; ++i) q[32 * k + i] = digit(block->digits[i], powers[k]);
      for (std::size_t i = 0; i < 16; ++i) q[160 + 16 * k + i] = digit(block->digits[32 + i], powers[k]);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      for (std::size_t i = 0; i < 4; ++i) q[240 + 4 * k + i] = digit(block->last[i], powers[k]);
    }
    for (std::size_t b = 0; b < 8; ++b) {
      set_scales(out[b], half_to_float(block->d));
      std::memcpy(out[b].q, q + 32 * b, sizeof(out[b].q));
    }
  }
}

void decode_tq2_0(const void* row, DecodedBlock* out, std::size_t n) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const BlockTQ2_0*>(row);
  for (const DecodedBlock* end = out + n / 32; out != end; out += 8, ++block) {
    for (std::size_t b = 0; b < 8; ++b) {
      set_scales(out[b], half_to_float(block->d));
      for (std::size_t i = 0; i < 32; ++i) {
        const int code = (block->codes[32 * (b / 4) + i] >> (2 * (b % 4))) & 3;
        out[b].q[i] = static_cast<std::int8_t>(code - 1);
      }
    }
  }
}

void decode_mxfp4(const void* row, DecodedBlock* out, std::size_t n) {
  assert(n % 32 == 0);
  const auto* block = static_cast<const BlockMXFP4*>(row);
  for (const DecodedBlock* end = out + n / 32; out != end; ++out, ++block) {
    set_scales(*out, mxfp4_scale(block->exponent));
    for (std::size_t i = 0; i < 16; ++i) {
      out->q[i] = fp4_values[block->nibbles[i] & 15];
      out->q[i + 16] = fp4_values[block->nibbles[i] >> 4];
    }
  }
}

void decode_nvfp4(const void* row, DecodedBlock* out, std::size_t n) {
  assert(n % 64 == 0);
  const auto* block = static_cast<const BlockNVFP4*>(row);
  for (const DecodedBlock* end = out + n / 32; out != end; ++block) {
    for (std::size_t part = 0; part < 4; ++part) {
      out->scales[part % 2] = nvfp4_scale(block->scales[part]);
      for (std::size_t i = 0; i < 8; ++i) {
        const std::uint8_t nibbles = block->nibbles[8 * part + i];
        out->q[16 * (part % 2) + i] = fp4_values[nibbles & 15];
        out->q[16 * (part % 2) + 8 + i] = fp4_values[nibbles >> 4];
      }
      if (part % 2 == 1) ++out;
    }
  }
}

}  // namespace gemlet::kernels
