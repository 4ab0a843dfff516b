#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/blocks.hpp"
#include "kernels/simd_panels.hpp"

// How stored blocks of the simple types, mostly with one scale for 32 weights, are unpacked into panels, written once
// for every instruction set (see simd_float.hpp for `V`).
//
// The parts that a format is put together from must be inlined: a call for each 32 columns takes as long as they do.
namespace gemlet::kernels::simd {

// The codes of 32 columns from 16 bytes: low nibbles are the first 16 columns, high nibbles the others.
template <typename V>
[[gnu::always_inline]] inline void load_nibbles(const std::uint8_t* const* rows, std::size_t at,
                                                typename V::Bytes* out) {
  typename V::Bytes packed[4];
  V::load_codes(rows, at, packed);
  for (int k = 0; k < 4; ++k) {
    out[k] = V::template bits<0, 4>(packed[k]);
    out[k + 4] = V::template bits<4, 4>(packed[k]);
  }
}

// As load_nibbles, with a fifth bit for each column.
template <typename V>
[[gnu::always_inline]] inline void load_five_bits(const std::uint8_t* const* rows, std::size_t nibbles,
                                                  std::size_t high, typename V::Bytes* out) {
  const typename V::Bytes fifth = V::load_words(rows, high);
  typename V::Bytes packed[4];
  V::load_codes(rows, nibbles, packed);
  for (int k = 0; k < 4; ++k) {
    out[k] = V::template merge<4, 1, 4>(V::template bits<0, 4>(packed[k]), V::column_bits(fifth, k));
    out[k + 4] = V::template merge<4, 1, 4>(V::template bits<4, 4>(packed[k]), V::column_bits(fifth, k + 4));
  }
}

// As load_nibbles, and the values that the nibbles stand for.
template <typename V>
[[gnu::always_inline]] inline void load_values(const std::uint8_t* const* rows, std::size_t at,
                                               const std::int8_t* values, typename V::Bytes* out) {
  load_nibbles<V>(rows, at, out);
  for (int k = 0; k < 8; ++k) out[k] = V::look_up(values, out[k]);
}

// The codes of four blocks from 32 bytes: two bits of each byte are one.
template <typename V, typename Panel>
void load_quarters(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
  for (std::size_t k = 0; k < 8; k += 4) {
    typename V::Bytes packed[4];
    V::load_codes(rows, at + 4 * k, packed);
    for (std::size_t i = 0; i < 4; ++i) {
      out[0].codes[k + i] = V::template bits<0, 2>(packed[i]);
      out[1].codes[k + i] = V::template bits<2, 2>(packed[i]);
      out[2].codes[k + i] = V::template bits<4, 2>(packed[i]);
      out[3].codes[k + i] = V::template bits<6, 2>(packed[i]);
    }
  }
}

// The first four bytes of Q4_1 and Q5_1: the scale, and the value of code 0, which is subtracted as its opposite.
template <typename V, typename Panel>
[[gnu::always_inline]] inline void load_scale_and_minimum(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
  const typename V::Bytes halves = V::load_words(rows, at);
  out->scale = V::low_halves(halves);
  out->min = V::sub(V::set(0.0F), V::high_halves(halves));
}

template <typename V>
struct Q4_0 : Centred<V, 4, 8> {
  using Base = Centred<V, 4, 8>;
  using Block = BlockQ4_0;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 1;  // of 32, in a stored block

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    load_nibbles<V>(rows, at + offsetof(Block, nibbles), out->codes);
    out->scale = V::load_halves(rows, at + offsetof(Block, d));
  }
};

template <typename V>
struct Q4_1 : WithMin<V, 4> {
  using Base = WithMin<V, 4>;
  using Block = BlockQ4_1;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 1;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    load_nibbles<V>(rows, at + offsetof(Block, nibbles), out->codes);
    load_scale_and_minimum<V>(rows, at, out);
  }
};

template <typename V>
struct Q5_0 : Centred<V, 5, 16> {
  using Base = Centred<V, 5, 16>;
  using Block = BlockQ5_0;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 1;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    load_five_bits<V>(rows, at + offsetof(Block, nibbles), at + offsetof(Block, high), out->codes);
    out->scale = V::load_halves(rows, at + offsetof(Block, d));
  }
};

template <typename V>
struct Q5_1 : WithMin<V, 5> {
  using Base = WithMin<V, 5>;
  using Block = BlockQ5_1;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 1;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    load_five_bits<V>(rows, at + offsetof(Block, nibbles), at + offsetof(Block, high), out->codes);
    load_scale_and_minimum<V>(rows, at, out);
  }
};

template <typename V>
struct IQ4_NL : Centred<V, 8, 0> {
  using Base = Centred<V, 8, 0>;
  using Block = BlockIQ4_NL;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 1;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    load_values<V>(rows, at + offsetof(Block, nibbles), iq4_values, out->codes);
    out->scale = V::load_halves(rows, at + offsetof(Block, d));
  }
};

template <typename V>
struct Q8_0 : Centred<V, 8, 0> {
  using Base = Centred<V, 8, 0>;
  using Block = BlockQ8_0;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 1;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    V::load_codes(rows, at + offsetof(Block, q), out->codes);
    V::load_codes(rows, at + offsetof(Block, q) + 16, out->codes + 4);
    out->scale = V::load_halves(rows, at + offsetof(Block, d));
  }
};

template <typename V>
struct MXFP4 : Centred<V, 8, 0> {
  using Base = Centred<V, 8, 0>;
  using Block = BlockMXFP4;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 1;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    load_values<V>(rows, at + offsetof(Block, nibbles), fp4_values, out->codes);
    const typename V::Float exponent = V::template lane_bits<0, 8>(V::load_words(rows, at));
    // 2^(exponent - 128) in two steps, as it may be denormal.
    const typename V::Float half = V::round(V::mul(V::sub(exponent, V::set(128.0F)), V::set(0.5F)));
    out->scale = V::mul(V::pow2(half), V::pow2(V::sub(V::sub(exponent, V::set(128.0F)), half)));
  }
};

template <typename V>
struct NVFP4 : ScaledHalves<V> {
  using Base = ScaledHalves<V>;
  using Block = BlockNVFP4;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 2;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    const typename V::Bytes scales = V::load_words(rows, at + offsetof(Block, scales));
    out[0].scales[0] = scale<0>(scales);
    out[0].scales[1] = scale<1>(scales);
    out[1].scales[0] = scale<2>(scales);
    out[1].scales[1] = scale<3>(scales);
    for (std::size_t b = 0; b < 2; ++b) {
      typename V::Bytes packed[4];  // of eight bytes the low nibbles are eight columns, the high ones the next eight
      V::load_codes(rows, at + offsetof(Block, nibbles) + 16 * b, packed);
      for (int k = 0; k < 4; ++k) {
        const int first = k / 2 * 4 + k % 2;
        out[b].codes[first] = V::look_up(fp4_values, V::template bits<0, 4>(packed[k]));
        out[b].codes[first + 2] = V::look_up(fp4_values, V::template bits<4, 4>(packed[k]));
      }
    }
  }

  // Half of the unsigned E4M3 float in byte j of each lane: its sign is ignored, and the code of a NaN is zero.
  template <int j>
  static typename V::Float scale(typename V::Bytes bytes) {
    using Float = typename V::Float;
    const Float mantissa = V::template lane_bits<8 * j, 3>(bytes);
    const Float exponent = V::template lane_bits<8 * j + 3, 4>(bytes);
    const Float code = V::template lane_bits<8 * j, 8>(bytes);
    const Float implicit = V::select_less(exponent, V::set(0.5F), V::set(0.0F), V::set(8.0F));
    const Float power = V::pow2(V::sub(V::max(exponent, V::set(1.0F)), V::set(11.0F)));
    const Float value = V::mul(V::add(mantissa, implicit), power);
    return V::select_less(V::abs(V::sub(code, V::set(127.0F))), V::set(0.5F), V::set(0.0F), value);
  }
};

template <typename V>
struct Q1_0 : Centred<V, 8, 0> {
  using Base = Centred<V, 8, 0>;
  using Block = BlockQ1_0;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 4;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    const typename V::Float d = V::load_halves(rows, at + offsetof(Block, d));
    for (std::size_t b = 0; b < 4; ++b) {
      const typename V::Bytes words = V::load_words(rows, at + offsetof(Block, bits) + 4 * b);
      for (int k = 0; k < 8; ++k) {  // -1 - 2 * 0, or -1 - 2 * -1
        const typename V::Bytes bits = V::column_bits(words, k);
        out[b].codes[k] = V::subtract(V::subtract(V::set_byte(0xFF), bits), bits);
      }
      out[b].scale = d;
    }
  }
};

template <typename V>
struct TQ2_0 : Centred<V, 8, 0> {
  using Base = Centred<V, 8, 0>;
  using Block = BlockTQ2_0;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    const typename V::Float d = V::high_halves(V::load_words(rows, at + offsetof(Block, d) - 2));
    for (int b = 0; b < 8; ++b) out[b].scale = d;
    load_quarters<V>(rows, at + offsetof(Block, codes), out);
    load_quarters<V>(rows, at + offsetof(Block, codes) + 32, out + 4);
    for (int b = 0; b < 8; ++b) {
      for (int k = 0; k < 8; ++k) out[b].codes[k] = V::subtract(out[b].codes[k], V::set_byte(1));
    }
  }
};

template <typename V>
struct TQ1_0 : ScaledHalves<V> {
  using Base = ScaledHalves<V>;
  using Block = BlockTQ1_0;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 8;

  // A byte is a fraction of 256: times 3, its integer part is the first digit, and the others stay in the byte.
  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    using Bytes = typename V::Bytes;
    const typename V::Float d = V::high_halves(V::load_words(rows, at + offsetof(Block, d) - 2));
    for (int b = 0; b < 8; ++b) out[b].scales[0] = out[b].scales[1] = d;
    Bytes digits[12];  // five times 32 columns, then five times 16
    for (std::size_t k = 0; k < 12; k += 4) V::load_codes(rows, at + offsetof(Block, digits) + 4 * k, digits + k);
    for (int b = 0; b < 5; ++b) {
      take_digits<8>(digits, out[b].codes);
      take_digits<4>(digits + 8, out[5 + b / 2].codes + b % 2 * 4);
    }
    Bytes last = V::load_words(rows, at + offsetof(Block, last));
    for (int k = 4; k < 8; ++k) take_digits<1>(&last, out[7].codes + k);
    V::order_words(out[7].codes + 4);
  }

  // The first digit of each byte, less one; the bytes keep the others.
  template <int n>
  [[gnu::always_inline]] static inline void take_digits(typename V::Bytes* bytes, typename V::Bytes* codes) {
    for (int i = 0; i < n; ++i) {
      const typename V::Bytes x = bytes[i];
      codes[i] = V::subtract(V::subtract(V::set_byte(0xFF), V::at_least(x, 86)), V::at_least(x, 171));
      bytes[i] = V::add_bytes(x, V::add_bytes(x, x));
    }
  }
};

}  // namespace gemlet::kernels::simd
