#include <bit>
#include <cstring>

#include "kernels/avx.hpp"
#include "kernels/simd_table.hpp"
#include "kernels/tables.hpp"

// AVX2, FMA and F16C. Compiled with flags of its own: see simd_float.hpp on what must not be defined here.
namespace gemlet::kernels {
namespace {

struct Dot {
  struct TwoScales {
    __m256i first, second, both;  // pairs of 16 bits: (s0, s0), (s1, s1), (s0, s1)
  };
  template <int j>
  static TwoScales two_scales(__m256i x) {      // signed bytes j and j + 1 of each lane
    const auto pair = [x](int low, int high) {  // 0xFF: a zero byte, below the signed one
      const auto lane = [=](int at) { return (at + high) << 24 | 0xFF0000 | (at + low) << 8 | 0xFF; };
      const __m128i order = _mm_set_epi32(lane(12), lane(8), lane(4), lane(0));
      return _mm256_srai_epi16(_mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(order)), 8);
    };
    return {pair(j, j), pair(j + 1, j + 1), pair(j, j + 1)};
  }

  // maddubs adds two products of an unsigned and a signed byte in 16 bits, and |q| <= 127, so that codes below 2^bits
  // leave room for `exact` such sums: 15 * 127 * 2 * 8 = 30480, 31 * 127 * 2 * 4 = 31496 and 63 * 127 * 2 * 2 = 32004
  // are all below 2^15. Eight-bit codes are signed: |code| * (q with the code's sign), at most 128 * 127 * 2 = 32512.
  template <int bits>
  static constexpr int exact = bits <= 4   ? 8
                               : bits == 5 ? 4
                               : bits == 6 ? 2
                                           : 1;

  // For the peak: products of unsigned and signed bytes, summed in 16 bits, and these summed in 32.
  using Products = __m256i;
  static constexpr std::size_t products_at_once = 32;
  template <int bits>
  static constexpr int in_a_row = bits == 4 ? 8 : 1;  // as in exact<bits>
  static Products multiply(__m256i a, __m256i b) { return _mm256_maddubs_epi16(a, b); }
  static Products multiply_add(Products sum, __m256i a, __m256i b) { return _mm256_add_epi16(sum, multiply(a, b)); }
  static __m256i add_products(__m256i sum, Products products) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
  }

  // sums[r][t], 16 bits: products of codes k with the q of columns 4k to 4k + 3, over `run` values of k.
  template <int bits, int run, int R, int T, typename Panel>
  static void sum16(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], int begin,
                    __m256i (&sums)[R][T]) {
    for (int k = begin; k < begin + run; ++k) {
      __m256i code[R], magnitude[R];
      for (int r = 0; r < R; ++r) {
        code[r] = w[r]->codes[k];
        magnitude[r] = bits == 8 ? _mm256_abs_epi8(code[r]) : code[r];
      }
      for (int t = 0; t < T; ++t) {
        std::int32_t four;
        std::memcpy(&four, x[t]->q + 4 * k, sizeof(four));
        const __m256i q = _mm256_set1_epi32(four);
        for (int r = 0; r < R; ++r) {
          const __m256i products = _mm256_maddubs_epi16(magnitude[r], bits == 8 ? _mm256_sign_epi8(q, code[r]) : q);
          sums[r][t] = k == begin ? products : _mm256_add_epi16(sums[r][t], products);
        }
      }
    }
  }

  // totals[r][t] += sum(code * q) over 32 columns.
  template <int bits, int R, int T, typename Panel>
  static void dot(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], __m256i (&totals)[R][T]) {
    for (int k = 0; k < 8; k += exact<bits>) {
      __m256i sums[R][T];
      sum16<bits, exact<bits>, R, T>(w, x, k, sums);
      for (int t = 0; t < T; ++t) {
        for (int r = 0; r < R; ++r) {
          totals[r][t] = _mm256_add_epi32(totals[r][t], _mm256_madd_epi16(sums[r][t], _mm256_set1_epi16(1)));
        }
      }
    }
  }

  // totals[r][t] = s0 * sum((code - centre) * q) over the first 16 columns + s1 * the same over the others.
  template <int bits, int centre, int R, int T, typename Panel>
  static void dot_two_scales(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T],
                             __m256i (&totals)[R][T]) {
    constexpr int run = exact<bits> < 4 ? exact<bits> : 4;
    constexpr int shift = std::countr_zero(static_cast<unsigned>(centre));  // 32, which leaves nothing, for 0
    for (int t = 0; t < T; ++t) {
      std::int32_t half_sums;
      std::memcpy(&half_sums, x[t]->half_sums, sizeof(half_sums));
      for (int r = 0; r < R; ++r) {
        const __m256i sum = _mm256_madd_epi16(w[r]->scales.both, _mm256_set1_epi32(half_sums));
        totals[r][t] = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(sum, shift));
      }
    }
    for (int k = 0; k < 8; k += run) {
      __m256i sums[R][T];
      sum16<bits, run, R, T>(w, x, k, sums);
      for (int t = 0; t < T; ++t) {
        for (int r = 0; r < R; ++r) {
          const __m256i scale = k < 4 ? w[r]->scales.first : w[r]->scales.second;
          totals[r][t] = _mm256_add_epi32(totals[r][t], _mm256_madd_epi16(sums[r][t], scale));
        }
      }
    }
  }

  // sum(code * q) of signed codes over the first 16 columns and over the others.
  template <int R, int T, typename Panel>
  static void dot_halves(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], __m256i (&first)[R][T],
                         __m256i (&second)[R][T]) {
    for (int k = 0; k < 8; ++k) {
      __m256i sums[R][T];
      sum16<8, 1, R, T>(w, x, k, sums);
      for (int t = 0; t < T; ++t) {
        for (int r = 0; r < R; ++r) {
          const __m256i sum = _mm256_madd_epi16(sums[r][t], _mm256_set1_epi16(1));
          __m256i& total = k < 4 ? first[r][t] : second[r][t];
          total = k % 4 == 0 ? sum : _mm256_add_epi32(total, sum);
        }
      }
    }
  }
};

}  // namespace

const Kernels& avx2() noexcept {
  static const Kernels table = simd::make_table<simd::Avx<Dot>>("avx2");
  return table;
}

}  // namespace gemlet::kernels
