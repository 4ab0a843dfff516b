#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/blocks.hpp"

// The vector operations of the x86 tables (see simd_float.hpp): AVX2, FMA and F16C. `Dot` multiplies codes by int8
// activations, the only thing in which the instruction sets differ, and has the peak's operations. It must be defined
// in an anonymous namespace, or be a template over a type that is, as the other tables' types are.
namespace gemlet::kernels::simd {

template <typename Dot>
struct Avx : Dot {
  static constexpr std::size_t width = 8;
  static constexpr std::size_t lane_bytes = 4;
  using Float = __m256;
  using Bytes = __m256i;
  using Ints = __m256i;  // 32 bits
  struct Wide {
    __m256d low, high;
  };

  static Float set(float x) { return _mm256_set1_ps(x); }
  static Float set_half(std::uint16_t bits) { return _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(bits))); }
  static Ints set_int(std::int32_t x) { return _mm256_set1_epi32(x); }
  static Float to_float(Ints x) { return _mm256_cvtepi32_ps(x); }
  static Float load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Float x) { _mm256_storeu_ps(p, x); }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }    // a * b + c
  static Float fnma(Float a, Float b, Float c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a * b
  static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }                  // NaN in b stays
  static Float min(Float a, Float b) { return _mm256_min_ps(a, b); }                  // NaN in b stays
  static Float abs(Float x) { return _mm256_andnot_ps(set(-0.0F), x); }
  static Float round(Float x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static Float pow2(Float n) {  // of a whole number from -126 to 127
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
  }
  static Float select_less(Float a, Float b, Float yes, Float no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
  }
  static Float copy_sign(Float magnitude, Float sign) {  // magnitude is positive or has that sign already
    return _mm256_or_ps(magnitude, _mm256_and_ps(set(-0.0F), sign));
  }
  static float sum(Float x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }

  static Wide wide_zero() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
  static Wide wide_fma(Float a, Float b, Wide c) {
    const auto low = [](Float x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); };
    const auto high = [](Float x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); };
    return {_mm256_fmadd_pd(low(a), low(b), c.low), _mm256_fmadd_pd(high(a), high(b), c.high)};
  }
  static double wide_sum(Wide x) {
    const __m256d both = _mm256_add_pd(x.low, x.high);
    const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(both), _mm256_extractf128_pd(both, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
  }

  static Float load_f16(const std::uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void store_f16(std::uint16_t* p, Float x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
  static Float load_bf16(const std::uint16_t* p) {
    const __m256i x = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
  }
  static Float load_int8(const std::int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static void store_int8(std::int8_t* p, Float x) {  // whole numbers from -128 to 127
    const __m256i x32 = _mm256_cvtps_epi32(x);
    const __m128i x16 = _mm_packs_epi32(_mm256_castsi256_si128(x32), _mm256_extracti128_si256(x32, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(x16, x16));
  }

  static Bytes load_bytes(const std::uint8_t* p) {
    __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    asm("" : "+x"(x));  // as a memory operand it would be loaded once more for each use
    return x;
  }

  // 16 bytes of each of eight rows; out[k], lane r: bytes 4k to 4k + 3 of row r.
  [[gnu::always_inline]] static inline void load_transposed(const std::uint8_t* const* rows, std::size_t offset,
                                                            Bytes* out) {
    const auto pair = [=](int r) {
      const auto* low = reinterpret_cast<const __m128i*>(rows[r] + offset);
      const auto* high = reinterpret_cast<const __m128i*>(rows[r + 4] + offset);
      return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(low)), _mm_loadu_si128(high), 1);
    };
    const __m256i r0 = pair(0), r1 = pair(1), r2 = pair(2), r3 = pair(3);
    const __m256i r01_low = _mm256_unpacklo_epi32(r0, r1), r01_high = _mm256_unpackhi_epi32(r0, r1);
    const __m256i r23_low = _mm256_unpacklo_epi32(r2, r3), r23_high = _mm256_unpackhi_epi32(r2, r3);
    out[0] = _mm256_unpacklo_epi64(r01_low, r23_low);
    out[1] = _mm256_unpackhi_epi64(r01_low, r23_low);
    out[2] = _mm256_unpacklo_epi64(r01_high, r23_high);
    out[3] = _mm256_unpackhi_epi64(r01_high, r23_high);
  }
  // codes[k] holds columns 4k to 4k + 3.
  [[gnu::always_inline]] static inline void load_codes(const std::uint8_t* const* rows, std::size_t offset,
                                                       Bytes* out) {
    load_transposed(rows, offset, out);
  }
  // Four bytes at rows[r] + offset.
  [[gnu::always_inline]] static inline Bytes load_words(const std::uint8_t* const* rows, std::size_t offset) {
    const auto word = [=](int r) {
      std::int32_t bytes;
      std::memcpy(&bytes, rows[r] + offset, sizeof(bytes));
      return bytes;
    };
    return _mm256_setr_epi32(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7));
  }
  // Code vector k of words of 32 bits a lane: for all of its columns byte k / 2.
  [[gnu::always_inline]] static inline Bytes column_bytes(Bytes words, int k) {
    const __m128i order = _mm_set_epi32(0x0C0C0C0C, 0x08080808, 0x04040404, 0);
    const __m256i byte =
        _mm256_add_epi8(_mm256_broadcastsi128_si256(order), _mm256_set1_epi8(static_cast<char>(k / 2)));
    return _mm256_shuffle_epi8(words, byte);
  }
  // Code vector k of words of 32 bits a lane, bit i for column i: all bits of a byte, or none.
  [[gnu::always_inline]] static inline Bytes column_bits(Bytes words, int k) {
    const __m256i bit = _mm256_set1_epi32(k % 2 == 0 ? 0x08040201 : static_cast<int>(0x80402010U));
    return _mm256_cmpeq_epi8(_mm256_and_si256(column_bytes(words, k), bit), bit);
  }
  // table[code] for codes below 16.
  static Bytes look_up(const std::int8_t* table, Bytes codes) {
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), codes);
  }
  // Two code vectors, from the eight codes grid[place] of each row. The row's place is in its lane of `places`.
  template <typename Place>
  [[gnu::always_inline]] static inline void look_up_eights(const std::uint64_t* grid, const Place* places, Bytes* out) {
    const auto pair = [=](int r) {
      const auto eight = [=](int row) {
        return reinterpret_cast<const double*>(grid + places[row * lane_bytes / sizeof(Place)]);
      };
      return _mm_loadh_pd(_mm_load_sd(eight(r)), eight(r + 1));
    };
    const auto four = [=](int r) {
      return _mm256_castpd_ps(_mm256_insertf128_pd(_mm256_castpd128_pd256(pair(r)), pair(r + 4), 1));
    };
    const Float low = four(0), high = four(2);
    out[0] = _mm256_castps_si256(_mm256_shuffle_ps(low, high, 0b10001000));
    out[1] = _mm256_castps_si256(_mm256_shuffle_ps(low, high, 0b11011101));
  }
  // The four codes grid[place] of each row, in its lane.
  template <typename Place>
  [[gnu::always_inline]] static inline Bytes look_up_fours(const std::uint32_t* grid, const Place* places) {
    const auto four = [=](int r) { return static_cast<int>(grid[places[r * lane_bytes / sizeof(Place)]]); };
    return _mm256_setr_epi32(four(0), four(1), four(2), four(3), four(4), four(5), four(6), four(7));
  }
  // Four vectors of four columns, a row to a lane, into the order of codes.
  static void order_words(Bytes*) {}
  // The 16-bit floats at rows[r] + offset; reads four bytes. Broadcasts and blends, as only two ports shuffle.
  static Float load_halves(const std::uint8_t* const* rows, std::size_t offset) {
    const auto four = [=](int r) {
      float bytes;  // blocks are not aligned
      std::memcpy(&bytes, rows[r] + offset, sizeof(bytes));
      return _mm_set1_ps(bytes);
    };
    const auto every_other = [&](int r) {
      const __m128 low = _mm_blend_ps(four(r), four(r + 2), 0b0010);
      const __m128 high = _mm_blend_ps(four(r + 4), four(r + 6), 0b1000);
      return _mm_castps_si128(_mm_blend_ps(low, high, 0b1100));
    };
    return _mm256_cvtph_ps(_mm_blend_epi16(every_other(0), _mm_slli_epi32(every_other(1), 16), 0b10101010));
  }
  static Float low_halves(Bytes x) { return high_halves(_mm256_slli_epi32(x, 16)); }
  static Float high_halves(Bytes x) {
    const __m256i x32 = _mm256_srli_epi32(x, 16);
    return _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(x32), _mm256_extracti128_si256(x32, 1)));
  }
  template <int shift, int count>
  static Bytes bits(Bytes x) {  // of each byte
    return _mm256_and_si256(_mm256_srli_epi16(x, shift), _mm256_set1_epi8((1 << count) - 1));
  }
  template <int from, int count, int to>
  static Bytes merge(Bytes low, Bytes high) {  // low | bits<from, count>(high) << to
    const Bytes shifted = from < to ? _mm256_slli_epi16(high, to - from) : _mm256_srli_epi16(high, from - to);
    return _mm256_or_si256(low, _mm256_and_si256(shifted, _mm256_set1_epi8(((1 << count) - 1) << to)));
  }
  static Bytes subtract(Bytes a, Bytes b) { return _mm256_sub_epi8(a, b); }
  static Bytes add_bytes(Bytes a, Bytes b) { return _mm256_add_epi8(a, b); }
  static Bytes negate(Bytes x, Bytes which) { return subtract(_mm256_xor_si256(x, which), which); }
  static Bytes at_least(Bytes x, std::uint8_t least) {  // all bits of a byte, or none
    return _mm256_cmpeq_epi8(_mm256_max_epu8(x, set_byte(least)), x);
  }
  static Bytes set_byte(std::uint8_t x) { return _mm256_set1_epi8(static_cast<char>(x)); }
  // Of each lane the bits that `mask` has after a shift to the left, or to the right where it is negative.
  [[gnu::always_inline]] static inline Bytes move_bits(Bytes x, int left, std::uint32_t mask) {
    const Bytes moved = left >= 0 ? _mm256_slli_epi32(x, left) : _mm256_srli_epi32(x, -left);
    return _mm256_and_si256(moved, _mm256_set1_epi32(static_cast<int>(mask)));
  }
  template <int shift, int count>
  static Float lane_bits(Bytes x) {  // of each lane, as a whole number
    return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(x, shift), _mm256_set1_epi32((1 << count) - 1)));
  }

  // A small number for each half of 32 columns: pairs of 16 bits.
  using TwoMins = __m256i;
  template <int j>
  static TwoMins two_mins(Bytes x) {  // unsigned bytes j and j + 1 of each lane
    const __m256i low = _mm256_and_si256(_mm256_srli_epi32(x, 8 * j), _mm256_set1_epi32(0xFF));
    const __m256i high = j == 0 ? _mm256_slli_epi32(x, 8) : _mm256_srli_epi32(x, 8 * (j - 1));
    return _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi32(0xFF0000)));
  }
  // min 0 * sum(q) of the first 16 columns + min 1 * that of the others.
  static Ints dot_mins(TwoMins mins, const ActivationBlock& x) {
    std::int32_t half_sums;
    std::memcpy(&half_sums, x.half_sums, sizeof(half_sums));
    return _mm256_madd_epi16(mins, _mm256_set1_epi32(half_sums));
  }
};

}  // namespace gemlet::kernels::simd
