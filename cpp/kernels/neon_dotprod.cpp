#include "kernels/neon.hpp"
#include "kernels/simd_table.hpp"
#include "kernels/tables.hpp"

// armv8.2-a with the dot product extension. Compiled with flags of its own: see simd_float.hpp on what must not be
// defined here.
namespace gemlet::kernels {
namespace {

struct Dot {
  template <int bits, int first, int last>
  static int32x4_t add(int32x4_t sums, const uint8x16_t* codes, const std::int8_t* q) {
    for (int k = first; k < last; k += 4) {
      const int8x16_t x = vld1q_s8(q + 4 * k);
      sums = vdotq_laneq_s32(sums, vreinterpretq_s8_u8(codes[k]), x, 0);
      sums = vdotq_laneq_s32(sums, vreinterpretq_s8_u8(codes[k + 1]), x, 1);
      sums = vdotq_laneq_s32(sums, vreinterpretq_s8_u8(codes[k + 2]), x, 2);
      sums = vdotq_laneq_s32(sums, vreinterpretq_s8_u8(codes[k + 3]), x, 3);
    }
    return sums;
  }

  // The densest multiply-adds: see simd_peak.hpp.
  using Products = int32x4_t;
  static constexpr std::size_t products_at_once = 16;
  template <int bits>
  static constexpr int in_a_row = 16;
  static Products multiply(uint8x16_t a, uint8x16_t b) { return multiply_add(vdupq_n_s32(0), a, b); }
  static Products multiply_add(Products sum, uint8x16_t a, uint8x16_t b) {
    return vdotq_s32(sum, vreinterpretq_s8_u8(a), vreinterpretq_s8_u8(b));
  }
  static int32x4_t add_products(int32x4_t sum, Products products) { return vaddq_s32(sum, products); }
};

}  // namespace

const Kernels& neon_dotprod() noexcept {
  static const Kernels table = simd::make_table<simd::Neon<Dot>>("neon_dotprod");
  return table;
}

}  // namespace gemlet::kernels
