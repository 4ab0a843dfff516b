#include "kernels/neon.hpp"

#include "kernels/simd_table.hpp"
#include "kernels/tables.hpp"

namespace gemlet::kernels {
namespace {

// Products of signed bytes fit 16 bits, and so do sums of as many as `exact` of them, |q| being at most 127:
// 15 * 127 * 8 = 15240, 31 * 127 * 8 = 31496, 63 * 127 * 4 = 32004 and 128 * 127 * 2 = 32512 are all below 2^15.
struct Dot {
  static constexpr bool pairs_rows = false;

  // totals[t] += sum(code * q) over columns 4 * first to 4 * last.
  template <int bits, int first, int last, int T>
  static void add(const uint8x16_t* codes, const ActivationBlock* const (&x)[T], int32x4_t (&totals)[T]) {
    constexpr int exact = bits <= 5 ? 8 : bits == 6 ? 4 : 2;
    constexpr int group = exact < last - first ? exact : last - first;
    for (int t = 0; t < T; ++t) {
      for (int begin = first; begin < last; begin += group) {
        int16x8_t rows01 = vdupq_n_s16(0);  // four columns of row 0, four of row 1
        int16x8_t rows23 = vdupq_n_s16(0);
        for (int k = begin; k < begin + group; ++k) {
          std::int32_t four;
          std::memcpy(&four, x[t]->q + 4 * k, sizeof(four));
          const int8x16_t q = vreinterpretq_s8_s32(vdupq_n_s32(four));
          const int8x16_t code = vreinterpretq_s8_u8(codes[k]);
          rows01 = vmlal_s8(rows01, vget_low_s8(code), vget_low_s8(q));
          rows23 = vmlal_high_s8(rows23, code, q);
        }
        totals[t] = vaddq_s32(totals[t], vpaddq_s32(vpaddlq_s16(rows01), vpaddlq_s16(rows23)));
      }
    }
  }

  // The densest multiply-adds: see simd_peak.hpp.
  struct Products {
    int16x8_t low, high;
  };
  static constexpr std::size_t products_at_once = 16;
  template <int bits>
  static constexpr int in_a_row = bits == 4 ? 8 : 2;
  static Products multiply(uint8x16_t a, uint8x16_t b) {
    const int8x16_t x = vreinterpretq_s8_u8(a), y = vreinterpretq_s8_u8(b);
    return {vmull_s8(vget_low_s8(x), vget_low_s8(y)), vmull_high_s8(x, y)};
  }
  static Products multiply_add(Products sum, uint8x16_t a, uint8x16_t b) {
    const int8x16_t x = vreinterpretq_s8_u8(a), y = vreinterpretq_s8_u8(b);
    return {vmlal_s8(sum.low, vget_low_s8(x), vget_low_s8(y)), vmlal_high_s8(sum.high, x, y)};
  }
  static int32x4_t add_products(int32x4_t sum, Products products) {
    return vpadalq_s16(vpadalq_s16(sum, products.low), products.high);
  }
};

}  // namespace

const Kernels& neon() noexcept {
  static const Kernels table = simd::make_table<simd::Neon<Dot>>("neon");
  return table;
}

}  // namespace gemlet::kernels
