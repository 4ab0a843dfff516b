#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/blocks.hpp"

// Products by vpdpbusd, which adds four products of an unsigned and a signed byte to 32 bits, exactly. It has two
// encodings, with an extension and an intrinsic for each: `Instruction` names one.
namespace gemlet::kernels::simd {

template <typename Instruction>
struct VnniDot {
  struct TwoScales {
    __m256i first, second;
  };
  template <int j>
  static TwoScales two_scales(__m256i x) {  // signed bytes j and j + 1 of each lane
    return {_mm256_srai_epi32(_mm256_slli_epi32(x, 24 - 8 * j), 24),
            _mm256_srai_epi32(_mm256_slli_epi32(x, 16 - 8 * j), 24)};
  }

  // The densest multiply-adds: see simd_peak.hpp.
  using Products = __m256i;
  static constexpr std::size_t products_at_once = 32;
  template <int bits>
  static constexpr int in_a_row = 16;
  static Products multiply(__m256i a, __m256i b) { return multiply_add(_mm256_setzero_si256(), a, b); }
  static Products multiply_add(Products sum, __m256i a, __m256i b) { return Instruction::multiply_add(sum, a, b); }
  static __m256i add_products(__m256i sum, Products products) { return _mm256_add_epi32(sum, products); }

  // totals[r][t] += sum(code * q) over 32 columns. Eight-bit codes are signed; code + 128 is not:
  // sum(code * q) = sum((code + 128) * q) - 128 * sum(q).
  template <int bits, int R, int T, typename Panel>
  static void dot(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], __m256i (&totals)[R][T]) {
    if constexpr (bits == 8) {
      for (int t = 0; t < T; ++t) {
        const __m256i minus_128_sum = _mm256_slli_epi32(_mm256_set1_epi32(x[t]->minus_8_sum), 4);
        for (int r = 0; r < R; ++r) totals[r][t] = _mm256_add_epi32(totals[r][t], minus_128_sum);
      }
    }
    accumulate<bits == 8, 0, 8>(w, x, totals);
  }

  // totals[r][t] = s0 * sum((code - centre) * q) over the first 16 columns + s1 * the same over the others.
  template <int bits, int centre, int R, int T, typename Panel>
  static void dot_two_scales(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T],
                             __m256i (&totals)[R][T]) {
    __m256i second[R][T];
    add_halves<false, centre>(w, x, totals, second);
    for (int t = 0; t < T; ++t) {
      for (int r = 0; r < R; ++r) {
        totals[r][t] = _mm256_add_epi32(_mm256_mullo_epi32(totals[r][t], w[r]->scales.first),
                                        _mm256_mullo_epi32(second[r][t], w[r]->scales.second));
      }
    }
  }

  // sum(code * q) of signed codes over the first 16 columns and over the others.
  template <int R, int T, typename Panel>
  static void dot_halves(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], __m256i (&first)[R][T],
                         __m256i (&second)[R][T]) {
    add_halves<true, 128>(w, x, first, second);
  }

 private:
  // sum((code - centre) * q) over the first 16 columns and over the others; signed codes have 128 added, not a centre.
  template <bool is_signed, int centre, int R, int T, typename Panel>
  static void add_halves(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], __m256i (&first)[R][T],
                         __m256i (&second)[R][T]) {
    for (int t = 0; t < T; ++t) {
      for (int r = 0; r < R; ++r) {
        first[r][t] = _mm256_set1_epi32(-centre * x[t]->half_sums[0]);
        second[r][t] = _mm256_set1_epi32(-centre * x[t]->half_sums[1]);
      }
    }
    accumulate<is_signed, 0, 4>(w, x, first);
    accumulate<is_signed, 4, 8>(w, x, second);
  }

  // totals[r][t] += sum(code * q) over columns 4 * first to 4 * last, or sum((code + 128) * q) of signed codes.
  template <bool is_signed, int first, int last, int R, int T, typename Panel>
  static void accumulate(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], __m256i (&totals)[R][T]) {
    for (int k = first; k < last; ++k) {
      __m256i code[R];
      for (int r = 0; r < R; ++r) {
        code[r] = is_signed ? _mm256_xor_si256(w[r]->codes[k], _mm256_set1_epi8(-128)) : w[r]->codes[k];
      }
      for (int t = 0; t < T; ++t) {
        std::int32_t four;
        std::memcpy(&four, x[t]->q + 4 * k, sizeof(four));
        const __m256i q = _mm256_set1_epi32(four);
        for (int r = 0; r < R; ++r) totals[r][t] = Instruction::multiply_add(totals[r][t], code[r], q);
      }
    }
  }
};

}  // namespace gemlet::kernels::simd
