#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <limits>

#include "kernels/half.hpp"
#include "kernels/kernels.hpp"

// The results are those of ggml's reference quantisers, bit for bit, so every product is rounded where theirs is: this
// file must be compiled without contraction of a * b + c (CMakeLists.txt). Theirs are undefined for NaN and infinity;
// here such a block gets a NaN scale, so that it surfaces.
namespace gemlet::kernels {
namespace {

constexpr std::uint16_t half_nan = 0x7E00;

bool all_finite(const float* x, std::size_t n) {
  return std::all_of(x, x + n, [](float v) { return std::isfinite(v); });
}

// The first of the values that are largest in magnitude, with its sign; 0 if all are 0.
float extreme(const float* x, std::size_t n) {
  float result = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (std::fabs(result) < std::fabs(x[i])) result = x[i];
  }
  return result;
}

float inverse(float d) {
  const float id = 1.0F / d;
  return std::isfinite(id) ? id : 0.0F;  // d is zero, or so small that it is zero in half precision
}

void to_f32(const float* x, void* row, std::size_t n) { std::copy_n(x, n, static_cast<float*>(row)); }

void to_f16(const float* x, void* row, std::size_t n) {
  std::transform(x, x + n, static_cast<std::uint16_t*>(row), float_to_half);
}

void to_bf16(const float* x, void* row, std::size_t n) {
  std::transform(x, x + n, static_cast<std::uint16_t*>(row), float_to_bfloat);
}

void to_q4_0(const float* x, void* row, std::size_t n) {
  assert(n % 32 == 0);
  auto* block = static_cast<BlockQ4_0*>(row);
  for (const float* end = x + n; x != end; x += 32, ++block) {
    *block = {};
    if (!all_finite(x, 32)) {
      block->d = half_nan;
      continue;
    }
    const float d = extreme(x, 32) / -8.0F;  // the value of largest magnitude becomes code 0
    const float id = inverse(d);
    block->d = float_to_half(d);
    const auto code = [id](float v) { return std::min(15, static_cast<int>(v * id + 8.5F)); };
    for (std::size_t i = 0; i < 16; ++i) {
      block->nibbles[i] = static_cast<std::uint8_t>(code(x[i]) | (code(x[i + 16]) << 4));
    }
  }
}

void to_q8_0(const float* x, void* row, std::size_t n) {
  assert(n % 32 == 0);
  auto* block = static_cast<BlockQ8_0*>(row);
  for (const float* end = x + n; x != end; x += 32, ++block) {
    *block = {};
    if (!all_finite(x, 32)) {
      block->d = half_nan;
      continue;
    }
    const float d = std::fabs(extreme(x, 32)) / 127.0F;
    const float id = inverse(d);
    block->d = float_to_half(d);
    for (std::size_t i = 0; i < 32; ++i) block->q[i] = static_cast<std::int8_t>(std::round(x[i] * id));
  }
}

constexpr float negligible = 1e-15F;  // a group with no larger value is stored as zeros

// Round to nearest even of |v| < 2^22, by the carry into the last bits of the mantissa.
int nearest(float v) {
  const auto bits = std::bit_cast<std::int32_t>(v + 12582912.0F);
  return (bits & 0x007FFFFF) - 0x00400000;
}

int code6(float v) { return std::clamp(nearest(v), -32, 31); }

// The scale for 16 values as 6-bit codes: of 19 guesses around -32 / extreme, the one whose codes, with the scale that
// is the least-squares best for them (each error weighted by x^2), leave the smallest error.
float best_scale(const float* x, std::uint8_t* codes) {
  const float max = extreme(x, 16);
  if (std::fabs(max) < negligible) return 0;
  float best_iscale = 0;
  float scale = 0;
  float best = 0;
  const auto consider = [&](float iscale, bool first) {
    float sum_lx = 0;
    float sum_l2 = 0;
    for (std::size_t i = 0; i < 16; ++i) {
      const auto code = static_cast<float>(code6(iscale * x[i]));
      const float weight = x[i] * x[i];
      sum_lx += weight * x[i] * code;
      sum_l2 += weight * code * code;
    }
    if (first || (sum_l2 > 0 && sum_lx * sum_lx > best * sum_l2)) {
      best_iscale = iscale;
      scale = sum_l2 != 0 ? sum_lx / sum_l2 : 0.0F;
      best = scale * sum_lx;
    }
  };
  consider(-32.0F / max, true);
  for (int step = -9; step <= 9; ++step) {
    if (step != 0) consider(-(32.0F + 0.1F * static_cast<float>(step)) / max, false);
  }
  for (std::size_t i = 0; i < 16; ++i) codes[i] = static_cast<std::uint8_t>(32 + code6(best_iscale * x[i]));
  return scale;
}

void to_q6_k_block(const float* x, BlockQ6_K& block) {
  block = {};
  float scales[16];
  std::uint8_t codes[256] = {};
  for (std::size_t g = 0; g < 16; ++g) scales[g] = best_scale(x + 16 * g, codes + 16 * g);
  if (!all_finite(x, 256) || !all_finite(scales, 16)) {
    block.d = half_nan;
    return;
  }
  const float max = extreme(scales, 16);
  if (std::fabs(max) < negligible) return;

  const float iscale = -128.0F / max;
  block.d = float_to_half(1.0F / iscale);
  for (std::size_t g = 0; g < 16; ++g) {
    block.scales[g] = static_cast<std::int8_t>(std::min(127, nearest(iscale * scales[g])));
    const float d = half_to_float(block.d) * block.scales[g];
    if (d == 0) continue;  // the codes do not matter, and the reference leaves them
    for (std::size_t i = 16 * g; i < 16 * g + 16; ++i) codes[i] = static_cast<std::uint8_t>(32 + code6(x[i] / d));
  }
  for (std::size_t half = 0; half < 2; ++half) {
    const std::uint8_t* c = codes + 128 * half;
    for (std::size_t i = 0; i < 32; ++i) {
      block.low[64 * half + i] = static_cast<std::uint8_t>((c[i] & 15) | (c[i + 64] << 4));
      block.low[64 * half + 32 + i] = static_cast<std::uint8_t>((c[i + 32] & 15) | (c[i + 96] << 4));
      block.high[32 * half + i] = static_cast<std::uint8_t>((c[i] >> 4) | ((c[i + 32] >> 4) << 2) |
                                                            ((c[i + 64] >> 4) << 4) | ((c[i + 96] >> 4) << 6));
    }
  }
}

void to_q6_k(const float* x, void* row, std::size_t n) {
  assert(n % 256 == 0);
  auto* block = static_cast<BlockQ6_K*>(row);
  for (const float* end = x + n; x != end; x += 256, ++block) to_q6_k_block(x, *block);
}

}  // namespace

QuantizeFn find_quantizer(DType type) noexcept {
  switch (type) {
    case DType::f32:
      return to_f32;
    case DType::f16:
      return to_f16;
    case DType::bf16:
      return to_bf16;
    case DType::q4_0:
      return to_q4_0;
    case DType::q8_0:
      return to_q8_0;
    case DType::q6_k:
      return to_q6_k;
    default:
      return nullptr;
  }
}

}  // namespace gemlet::kernels
