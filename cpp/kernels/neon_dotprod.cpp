#include "kernels/neon.hpp"
#include "kernels/simd_table.hpp"
#include "kernels/tables.hpp"

// armv8.2-a with the dot product extension. Compiled with flags of its own: see simd_float.hpp on what must not be
// defined here.
namespace gemlet::kernels {
namespace {

struct Dot {
  static constexpr bool pairs_rows = false;

  // totals[t] += sum(code * q) over columns 4 * first to 4 * last.
  template <int, int first, int last, int T>
  static void add(const uint8x16_t* codes, const ActivationBlock* const (&x)[T], int32x4_t (&totals)[T]) {
    for (int t = 0; t < T; ++t) {
      for (int k = first; k < last; k += 4) {
        const int8x16_t q = vld1q_s8(x[t]->q + 4 * k);
        totals[t] = vdotq_laneq_s32(totals[t], vreinterpretq_s8_u8(codes[k]), q, 0);
        totals[t] = vdotq_laneq_s32(totals[t], vreinterpretq_s8_u8(codes[k + 1]), q, 1);
        totals[t] = vdotq_laneq_s32(totals[t], vreinterpretq_s8_u8(codes[k + 2]), q, 2);
        totals[t] = vdotq_laneq_s32(totals[t], vreinterpretq_s8_u8(codes[k + 3]), q, 3);
      }
    }
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
