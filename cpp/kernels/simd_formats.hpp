#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/blocks.hpp"
#include "kernels/simd_panels.hpp"

// How stored blocks of the types with one scale for 32 weights are unpacked into panels, written once for every
// instruction set (see simd_float.hpp for `V`).
namespace gemlet::kernels::simd {

// The codes of 32 columns from 16 bytes: low nibbles are the first 16 columns, high nibbles the others.
template <typename V>
void load_nibbles(const std::uint8_t* const* rows, std::size_t at, typename V::Bytes* out) {
  typename V::Bytes packed[4];
  V::load_codes(rows, at, packed);
  for (int k = 0; k < 4; ++k) {
    out[k] = V::template bits<0, 4>(packed[k]);
    out[k + 4] = V::template bits<4, 4>(packed[k]);
  }
}

// As load_nibbles, with a fifth bit for each column.
template <typename V>
void load_five_bits(const std::uint8_t* const* rows, std::size_t nibbles, std::size_t high, typename V::Bytes* out) {
  typename V::Bytes fifth[8];
  V::load_bits(rows, high, fifth);
  load_nibbles<V>(rows, nibbles, out);
  for (int k = 0; k < 8; ++k) out[k] = V::template merge<4, 1, 4>(out[k], fifth[k]);
}

// As load_nibbles, and what they stand for in the IQ4 types.
template <typename V>
void load_iq4_values(const std::uint8_t* const* rows, std::size_t at, typename V::Bytes* out) {
  load_nibbles<V>(rows, at, out);
  for (int k = 0; k < 8; ++k) out[k] = V::look_up(iq4_values, out[k]);
}

// The first four bytes of Q4_1 and Q5_1: the scale, and the value of code 0, which is subtracted as its opposite.
template <typename V, typename Panel>
void load_scale_and_minimum(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
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
    load_iq4_values<V>(rows, at + offsetof(Block, nibbles), out->codes);
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

}  // namespace gemlet::kernels::simd
