#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/blocks.hpp"

// The vector operations of the ARM tables (see simd_float.hpp), armv8.0. `Dot` chooses the order of the codes and adds
// products of bytes: the only things in which the instruction sets differ, and has the peak's operations. It must be
// defined in an anonymous namespace, as the other tables' types are.
namespace gemlet::kernels::simd {

template <typename Dot>
struct Neon : Dot {
  static constexpr std::size_t width = 4;
  static constexpr std::size_t lane_bytes = 4;
  using Float = float32x4_t;
  using Bytes = uint8x16_t;
  using Ints = int32x4_t;
  struct Wide {
    float64x2_t low, high;
  };

  static Float set(float x) { return vdupq_n_f32(x); }
  static Ints set_int(std::int32_t x) { return vdupq_n_s32(x); }
  static Float to_float(Ints x) { return vcvtq_f32_s32(x); }
  static Float load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, Float x) { vst1q_f32(p, x); }
  static Float add(Float a, Float b) { return vaddq_f32(a, b); }
  static Float sub(Float a, Float b) { return vsubq_f32(a, b); }
  static Float mul(Float a, Float b) { return vmulq_f32(a, b); }
  static Float div(Float a, Float b) { return vdivq_f32(a, b); }
  static Float fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }   // a * b + c
  static Float fnma(Float a, Float b, Float c) { return vfmsq_f32(c, a, b); }  // c - a * b
  static Float max(Float a, Float b) { return vmaxq_f32(a, b); }               // NaN in either stays
  static Float min(Float a, Float b) { return vminq_f32(a, b); }
  static Float abs(Float x) { return vabsq_f32(x); }
  static Float round(Float x) { return vrndnq_f32(x); }
  static Float pow2(Float n) {  // of a whole number from -126 to 127
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
  }
  static Float select_less(Float a, Float b, Float yes, Float no) { return vbslq_f32(vcltq_f32(a, b), yes, no); }
  static Float copy_sign(Float magnitude, Float sign) { return vbslq_f32(vdupq_n_u32(0x80000000U), sign, magnitude); }
  static float sum(Float x) { return vaddvq_f32(x); }
  static Bytes load_bytes(const std::uint8_t* p) { return vld1q_u8(p); }

  static Wide wide_zero() { return {vdupq_n_f64(0), vdupq_n_f64(0)}; }
  static Wide wide_fma(Float a, Float b, Wide c) {
    return {vfmaq_f64(c.low, vcvt_f64_f32(vget_low_f32(a)), vcvt_f64_f32(vget_low_f32(b))),
            vfmaq_f64(c.high, vcvt_high_f64_f32(a), vcvt_high_f64_f32(b))};
  }
  static double wide_sum(Wide x) { return vaddvq_f64(vaddq_f64(x.low, x.high)); }

  static Float load_f16(const std::uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
  static void store_f16(std::uint16_t* p, Float x) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x))); }
  static Float load_bf16(const std::uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
  static Float set_half(std::uint16_t bits) { return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))); }
  static Float load_int8(const std::int8_t* p) {
    std::int32_t four;
    std::memcpy(&four, p, sizeof(four));
    const int16x8_t x16 = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(x16)));
  }
  static void store_int8(std::int8_t* p, Float x) {  // whole numbers from -128 to 127
    const int16x4_t x16 = vmovn_s32(vcvtq_s32_f32(x));
    const int8x8_t x8 = vmovn_s16(vcombine_s16(x16, x16));
    vst1_lane_s32(reinterpret_cast<std::int32_t*>(p), vreinterpret_s32_s8(x8), 0);
  }

  // 16 bytes of each of four rows; out[k], lane r: bytes 4k to 4k + 3 of row r.
  [[gnu::always_inline]] static inline void load_transposed(const std::uint8_t* const* rows, std::size_t offset,
                                                            Bytes* out) {
    const auto row = [=](int r) { return vreinterpretq_u32_u8(vld1q_u8(rows[r] + offset)); };
    const uint32x4_t r0 = row(0), r1 = row(1), r2 = row(2), r3 = row(3);
    const uint64x2_t even01 = vreinterpretq_u64_u32(vtrn1q_u32(r0, r1));
    const uint64x2_t odd01 = vreinterpretq_u64_u32(vtrn2q_u32(r0, r1));
    const uint64x2_t even23 = vreinterpretq_u64_u32(vtrn1q_u32(r2, r3));
    const uint64x2_t odd23 = vreinterpretq_u64_u32(vtrn2q_u32(r2, r3));
    out[0] = vreinterpretq_u8_u64(vtrn1q_u64(even01, even23));
    out[1] = vreinterpretq_u8_u64(vtrn1q_u64(odd01, odd23));
    out[2] = vreinterpretq_u8_u64(vtrn2q_u64(even01, even23));
    out[3] = vreinterpretq_u8_u64(vtrn2q_u64(odd01, odd23));
  }
  // out[2k]: bytes 8k to 8k + 7 of row 0, then of row 1; out[2k + 1]: of rows 2 and 3.
  [[gnu::always_inline]] static inline void load_pairs(const std::uint8_t* const* rows, std::size_t offset,
                                                       Bytes* out) {
    const auto row = [=](int r) { return vreinterpretq_u64_u8(vld1q_u8(rows[r] + offset)); };
    const uint64x2_t r0 = row(0), r1 = row(1), r2 = row(2), r3 = row(3);
    out[0] = vreinterpretq_u8_u64(vzip1q_u64(r0, r1));
    out[1] = vreinterpretq_u8_u64(vzip1q_u64(r2, r3));
    out[2] = vreinterpretq_u8_u64(vzip2q_u64(r0, r1));
    out[3] = vreinterpretq_u8_u64(vzip2q_u64(r2, r3));
  }
  static Float load_halves(const std::uint8_t* const* rows, std::size_t offset) {
    std::uint16_t halves[4];
    for (int r = 0; r < 4; ++r) std::memcpy(&halves[r], rows[r] + offset, sizeof(halves[r]));
    return load_f16(halves);
  }
  static Float low_halves(Bytes x) { return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(vreinterpretq_u32_u8(x)))); }
  static Float high_halves(Bytes x) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vshrn_n_u32(vreinterpretq_u32_u8(x), 16)));
  }
  template <int shift, int count>
  static Bytes bits(Bytes x) {  // of each byte
    if constexpr (shift > 0) x = vshrq_n_u8(x, shift);
    if constexpr (shift + count < 8) x = vandq_u8(x, vdupq_n_u8((1 << count) - 1));
    return x;
  }
  template <int from, int count, int to>
  static Bytes merge(Bytes low, Bytes high) {  // low | bits<from, count>(high) << to
    if constexpr (from < to) high = vshlq_n_u8(high, to - from);
    if constexpr (from > to) high = vshrq_n_u8(high, from - to);
    return vorrq_u8(low, vandq_u8(high, vdupq_n_u8(((1 << count) - 1) << to)));
  }
  static Bytes subtract(Bytes a, Bytes b) { return vsubq_u8(a, b); }
  static Bytes add_bytes(Bytes a, Bytes b) { return vaddq_u8(a, b); }
  static Bytes negate(Bytes x, Bytes which) { return subtract(veorq_u8(x, which), which); }
  static Bytes at_least(Bytes x, std::uint8_t least) { return vcgeq_u8(x, set_byte(least)); }  // all bits, or none
  static Bytes set_byte(std::uint8_t x) { return vdupq_n_u8(x); }
  // Of each lane the bits that `mask` has after a shift to the left, or to the right where it is negative.
  [[gnu::always_inline]] static inline Bytes move_bits(Bytes x, int left, std::uint32_t mask) {
    const uint32x4_t moved = vshlq_u32(vreinterpretq_u32_u8(x), vdupq_n_s32(left));
    return vreinterpretq_u8_u32(vandq_u32(moved, vdupq_n_u32(mask)));
  }
  template <int shift, int count>
  static Float lane_bits(Bytes x) {  // of each lane, as a whole number
    const uint32x4_t lanes = vshlq_n_u32(vreinterpretq_u32_u8(x), 32 - shift - count);
    return vcvtq_f32_u32(vshrq_n_u32(lanes, 32 - count));
  }
  struct TwoScales {
    Ints first, second;
  };
  template <int j>
  static TwoScales two_scales(Bytes x) {  // signed bytes j and j + 1 of each lane
    const int32x4_t lanes = vreinterpretq_s32_u8(x);
    return {vshrq_n_s32(vshlq_n_s32(lanes, 24 - 8 * j), 24), vshrq_n_s32(vshlq_n_s32(lanes, 16 - 8 * j), 24)};
  }

  // A small number for each half of 32 columns.
  using TwoMins = TwoScales;
  template <int j>
  static TwoMins two_mins(Bytes x) {  // unsigned bytes, below 128, j and j + 1 of each lane
    return two_scales<j>(x);
  }
  // min 0 * sum(q) of the first 16 columns + min 1 * that of the others.
  static Ints dot_mins(const TwoMins& mins, const ActivationBlock& x) {
    return vmlaq_n_s32(vmulq_n_s32(mins.first, x.half_sums[0]), mins.second, x.half_sums[1]);
  }

  // Four bytes at rows[r] + offset.
  [[gnu::always_inline]] static inline Bytes load_words(const std::uint8_t* const* rows, std::size_t offset) {
    std::uint8_t words[16];
    for (int r = 0; r < 4; ++r) std::memcpy(words + 4 * r, rows[r] + offset, 4);
    return vld1q_u8(words);
  }
  // Code vector k of words of 32 bits a lane: for all of its columns byte k / 2.
  [[gnu::always_inline]] static inline Bytes column_bytes(Bytes words, int k) {
    constexpr std::uint8_t two_lanes[16] = {0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4};
    constexpr std::uint8_t lanes[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    const int first = k / 2 + (Dot::pairs_rows ? 8 * (k % 2) : 0);
    const uint8x16_t order = vld1q_u8(Dot::pairs_rows ? two_lanes : lanes);
    return vqtbl1q_u8(words, vaddq_u8(order, vdupq_n_u8(static_cast<std::uint8_t>(first))));
  }
  // Code vector k of words of 32 bits a lane, bit i for column i: all bits of a byte, or none.
  [[gnu::always_inline]] static inline Bytes column_bits(Bytes words, int k) {
    constexpr std::uint64_t all = 0x8040201008040201U;
    const std::uint64_t bit = Dot::pairs_rows ? all : (all >> (32 * (k % 2)) & 0xFFFFFFFFU) * 0x100000001U;
    return vtstq_u8(column_bytes(words, k), vreinterpretq_u8_u64(vdupq_n_u64(bit)));
  }
  // table[code] for codes below 16.
  static Bytes look_up(const std::int8_t* table, Bytes codes) {
    return vreinterpretq_u8_s8(vqtbl1q_s8(vld1q_s8(table), codes));
  }
  // Two code vectors, from the eight codes grid[place] of each row. The row's place is in its lane of `places`.
  template <typename Place>
  [[gnu::always_inline]] static inline void look_up_eights(const std::uint64_t* grid, const Place* places, Bytes* out) {
    const auto pair = [=](int r) {
      const auto eight = [=](int row) { return grid + places[row * lane_bytes / sizeof(Place)]; };
      return vcombine_u64(vld1_u64(eight(r)), vld1_u64(eight(r + 1)));
    };
    const uint32x4_t rows01 = vreinterpretq_u32_u64(pair(0)), rows23 = vreinterpretq_u32_u64(pair(2));
    out[0] = vreinterpretq_u8_u32(Dot::pairs_rows ? rows01 : vuzp1q_u32(rows01, rows23));
    out[1] = vreinterpretq_u8_u32(Dot::pairs_rows ? rows23 : vuzp2q_u32(rows01, rows23));
  }
  // The four codes grid[place] of each row, in its lane.
  template <typename Place>
  [[gnu::always_inline]] static inline Bytes look_up_fours(const std::uint32_t* grid, const Place* places) {
    uint32x4_t out = vdupq_n_u32(0);
    out = vld1q_lane_u32(grid + places[0], out, 0);
    out = vld1q_lane_u32(grid + places[lane_bytes / sizeof(Place)], out, 1);
    out = vld1q_lane_u32(grid + places[2 * lane_bytes / sizeof(Place)], out, 2);
    out = vld1q_lane_u32(grid + places[3 * lane_bytes / sizeof(Place)], out, 3);
    return vreinterpretq_u8_u32(out);
  }
  // Four vectors of four columns, a row to a lane, into the order of codes.
  static void order_words(Bytes* codes) {
    if constexpr (Dot::pairs_rows) {
      for (int k = 0; k < 4; k += 2) {
        const uint32x4_t left = vreinterpretq_u32_u8(codes[k]), right = vreinterpretq_u32_u8(codes[k + 1]);
        codes[k] = vreinterpretq_u8_u32(vzip1q_u32(left, right));
        codes[k + 1] = vreinterpretq_u8_u32(vzip2q_u32(left, right));
      }
    }
  }

  // 16 columns of each of four rows, codes below 64 or signed: as signed bytes they are right either way.
  [[gnu::always_inline]] static inline void load_codes(const std::uint8_t* const* rows, std::size_t offset,
                                                       Bytes* out) {
    if constexpr (Dot::pairs_rows) {
      load_pairs(rows, offset, out);
    } else {
      load_transposed(rows, offset, out);
    }
  }

  // totals[r][t] += sum(code * q) over 32 columns.
  template <int bits, int R, int T, typename Panel>
  static void dot(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], Ints (&totals)[R][T]) {
    for (int r = 0; r < R; ++r) Dot::template add<bits, 0, 8>(w[r]->codes, x, totals[r]);
  }

  // totals[r][t] = s0 * sum((code - centre) * q) over the first 16 columns + s1 * the same over the others.
  template <int bits, int centre, int R, int T, typename Panel>
  static void dot_two_scales(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], Ints (&totals)[R][T]) {
    for (int r = 0; r < R; ++r) {
      Ints first[T], second[T];
      for (int t = 0; t < T; ++t) {
        first[t] = set_int(-centre * x[t]->half_sums[0]);
        second[t] = set_int(-centre * x[t]->half_sums[1]);
      }
      Dot::template add<bits, 0, 4>(w[r]->codes, x, first);
      Dot::template add<bits, 4, 8>(w[r]->codes, x, second);
      for (int t = 0; t < T; ++t) {
        totals[r][t] = vmlaq_s32(vmulq_s32(first[t], w[r]->scales.first), second[t], w[r]->scales.second);
      }
    }
  }

  // sum(code * q) of signed codes over the first 16 columns and over the others.
  template <int R, int T, typename Panel>
  static void dot_halves(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], Ints (&first)[R][T],
                         Ints (&second)[R][T]) {
    for (int r = 0; r < R; ++r) {
      for (int t = 0; t < T; ++t) first[r][t] = second[r][t] = set_int(0);
      Dot::template add<8, 0, 4>(w[r]->codes, x, first[r]);
      Dot::template add<8, 4, 8>(w[r]->codes, x, second[r]);
    }
  }
};

}  // namespace gemlet::kernels::simd
