#include "kernels/neon.hpp"
#include "kernels/simd_table.hpp"
#include "kernels/tables.hpp"

// armv8.2-a with the dot product and the int8 matrix extension. Compiled with flags of its own: see simd_float.hpp on
// what must not be defined here.
namespace gemlet::kernels {
namespace {

struct Dot {
  static constexpr bool pairs_rows = true;

  // totals[t] += sum(code * q) over columns 4 * first to 4 * last.
  template <int, int first, int last, int T>
  static void add(const uint8x16_t* codes, const ActivationBlock* const (&x)[T], int32x4_t (&totals)[T]) {
    constexpr int paired = T / 2 * 2;
    for (int t = 0; t < paired; t += 2) add_two<first, last>(codes, x[t]->q, x[t + 1]->q, totals[t], totals[t + 1]);
    if constexpr (paired < T) add_one<first, last>(codes, x[paired]->q, totals[paired]);
  }

  // The densest multiply-adds: see simd_peak.hpp.
  using Products = int32x4_t;
  static constexpr std::size_t products_at_once = 32;
  template <int bits>
  static constexpr int in_a_row = 16;
  static Products multiply(uint8x16_t a, uint8x16_t b) { return multiply_add(vdupq_n_s32(0), a, b); }
  static Products multiply_add(Products sum, uint8x16_t a, uint8x16_t b) {
    return vmmlaq_s32(sum, vreinterpretq_s8_u8(a), vreinterpretq_s8_u8(b));
  }
  static int32x4_t add_products(int32x4_t sum, Products products) { return vaddq_s32(sum, products); }

 private:
  // smmla multiplies two rows of eight bytes by two others: of the codes of two weight rows and the q of two tokens.
  template <int first, int last>
  static void add_two(const uint8x16_t* codes, const std::int8_t* a, const std::int8_t* b, int32x4_t& total_a,
                      int32x4_t& total_b) {
    int32x4_t rows01 = vzip1q_s32(total_a, total_b);  // row 0 by a, by b, row 1 by a, by b
    int32x4_t rows23 = vzip2q_s32(total_a, total_b);
    for (int k = first; k < last; k += 4) {
      const int64x2_t q_a = load(a + 4 * k);
      const int64x2_t q_b = load(b + 4 * k);
      const int8x16_t low = vreinterpretq_s8_s64(vzip1q_s64(q_a, q_b));
      const int8x16_t high = vreinterpretq_s8_s64(vzip2q_s64(q_a, q_b));
      rows01 = vmmlaq_s32(rows01, vreinterpretq_s8_u8(codes[k]), low);
      rows23 = vmmlaq_s32(rows23, vreinterpretq_s8_u8(codes[k + 1]), low);
      rows01 = vmmlaq_s32(rows01, vreinterpretq_s8_u8(codes[k + 2]), high);
      rows23 = vmmlaq_s32(rows23, vreinterpretq_s8_u8(codes[k + 3]), high);
    }
    total_a = vuzp1q_s32(rows01, rows23);
    total_b = vuzp2q_s32(rows01, rows23);
  }

  template <int first, int last>
  static void add_one(const uint8x16_t* codes, const std::int8_t* x, int32x4_t& total) {
    int32x4_t rows01 = vdupq_n_s32(0);  // two sums of row 0, two of row 1
    int32x4_t rows23 = vdupq_n_s32(0);
    for (int k = first; k < last; k += 2) {
      const int8x16_t q = vcombine_s8(vld1_s8(x + 4 * k), vld1_s8(x + 4 * k));
      rows01 = vdotq_s32(rows01, vreinterpretq_s8_u8(codes[k]), q);
      rows23 = vdotq_s32(rows23, vreinterpretq_s8_u8(codes[k + 1]), q);
    }
    total = vaddq_s32(total, vpaddq_s32(rows01, rows23));
  }

  static int64x2_t load(const std::int8_t* q) { return vreinterpretq_s64_s8(vld1q_s8(q)); }
};

}  // namespace

const Kernels& neon_i8mm() noexcept {
  static const Kernels table = simd::make_table<simd::Neon<Dot>>("neon_i8mm");
  return table;
}

}  // namespace gemlet::kernels
