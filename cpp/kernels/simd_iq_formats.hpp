#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/blocks.hpp"
#include "kernels/iq_grids.hpp"
#include "kernels/simd_formats.hpp"
#include "kernels/simd_panels.hpp"

// How stored blocks of the types that choose their weights from grids are unpacked into panels, written once for every
// instruction set (see simd_float.hpp for `V`). The places in a grid are computed for all rows at once, a row to a
// lane, and then looked up one by one. Signs are applied to whole vectors of codes.
namespace gemlet::kernels::simd {

// 2 * n + 1 for the number n in `count` bits of each lane from `from` on.
template <typename V, int from, int count>
[[gnu::always_inline]] inline typename V::Float odd_number(typename V::Bytes words) {
  return V::fma(V::template lane_bits<from, count>(words), V::set(2.0F), V::set(1.0F));
}

// Numbers that follow one another in a lane are taken from its low end: then each step of a loop does the same.
template <typename V, int bits>
[[gnu::always_inline]] inline void drop_bits(typename V::Bytes& words) {
  words = V::move_bits(words, -bits, 0xFFFFFFFFU);
}

// Four numbers in each lane, one to a byte.
template <typename V>
struct BytePlaces {
  std::uint8_t numbers[4 * V::width];

  explicit BytePlaces(typename V::Bytes words) { std::memcpy(numbers, &words, sizeof(numbers)); }
  const std::uint8_t* operator[](int i) const { return numbers + i; }
};

// Four numbers in each lane, number i of low byte i. On top of each are `count` bits of `high`, those of number 0 at
// `from`, those of the others `count` + `apart` bits after one another.
template <typename V, int from, int count, int apart = 0>
struct WidePlaces {
  std::uint16_t even[2 * V::width];  // numbers 0 and 2 of each lane
  std::uint16_t odd[2 * V::width];

  [[gnu::always_inline]] inline WidePlaces(typename V::Bytes low, typename V::Bytes high) {
    const typename V::Bytes words[2] = {two<0>(low, high), two<1>(low, high)};
    std::memcpy(even, &words[0], sizeof(even));
    std::memcpy(odd, &words[1], sizeof(odd));
  }
  const std::uint16_t* operator[](int i) const { return (i % 2 == 0 ? even : odd) + i / 2; }

 private:
  // Numbers i and i + 2.
  template <int i>
  [[gnu::always_inline]] static inline typename V::Bytes two(typename V::Bytes low, typename V::Bytes high) {
    constexpr std::uint32_t mask = (1U << count) - 1U;
    constexpr int right = from + (count + apart) * i;
    const typename V::Bytes first = V::move_bits(high, 8 - right, mask << 8);
    const typename V::Bytes second = V::move_bits(high, 24 - right - 2 * (count + apart), mask << 24);
    return V::add_bytes(V::move_bits(low, -8 * i, 0x00FF00FFU), V::add_bytes(first, second));
  }
};

// Codes of 32 columns from four vectors of a grid for each row.
template <typename V, typename Places>
[[gnu::always_inline]] inline void look_up_four(const std::uint64_t* grid, const Places& places,
                                                typename V::Bytes* codes) {
  for (int i = 0; i < 4; ++i) V::look_up_eights(grid, places[i], codes + 2 * i);
}

// Codes of 16 columns from four vectors of a grid for each row.
template <typename V, typename Places>
[[gnu::always_inline]] inline void look_up_four(const std::uint32_t* grid, const Places& places,
                                                typename V::Bytes* codes) {
  for (int i = 0; i < 4; ++i) codes[i] = V::look_up_fours(grid, places[i]);
  V::order_words(codes);
}

// The codes of 32 columns, negated where their bits are set.
template <typename V>
[[gnu::always_inline]] inline void apply_signs(typename V::Bytes signs, const typename V::Bytes* codes,
                                               typename V::Bytes* out) {
  for (int k = 0; k < 8; ++k) out[k] = V::negate(codes[k], V::column_bits(signs, k));
}

// The signs of 32 columns from seven bits in each byte: the eighth makes their number even.
template <typename V>
[[gnu::always_inline]] inline typename V::Bytes even_signs(typename V::Bytes sevens) {
  static constexpr std::int8_t odd[16] = {0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0};
  const typename V::Bytes low = V::look_up(odd, V::template bits<0, 4>(sevens));
  const typename V::Bytes high = V::look_up(odd, V::template bits<4, 3>(sevens));
  return V::add_bytes(sevens, V::add_bytes(low, high));
}

// Four times seven bits, packed into 28, to a byte each.
template <typename V>
[[gnu::always_inline]] inline typename V::Bytes spread_sevens(typename V::Bytes packed) {
  const typename V::Bytes low = V::add_bytes(V::move_bits(packed, 0, 0x7FU), V::move_bits(packed, 1, 0x7F00U));
  const typename V::Bytes high = V::add_bytes(V::move_bits(packed, 2, 0x7F0000U), V::move_bits(packed, 3, 0x7F000000U));
  return V::add_bytes(low, high);
}

template <typename V>
struct IQ1_S : ScaledHalves<V> {
  using Base = ScaledHalves<V>;
  using Block = BlockIQ1_S;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    using Bytes = typename V::Bytes;
    const typename V::Float d = V::mul(V::load_halves(rows, at + offsetof(Block, d)), V::set(0.125F));
    Bytes low[8];
    Bytes high[4];  // for two blocks
    V::load_transposed(rows, at + offsetof(Block, low), low);
    V::load_transposed(rows, at + offsetof(Block, low) + 16, low + 4);
    V::load_transposed(rows, at + offsetof(Block, high), high);
    for (int b = 0; b < 8; ++b, ++out) {
      Bytes& bits = high[b / 2];
      out->scales[0] = out->scales[1] = V::mul(d, odd_number<V, 12, 3>(bits));
      Bytes codes[8];
      look_up_four<V>(iq1_grid.data(), WidePlaces<V, 0, 3>(low[b], bits), codes);
      const Bytes zero = V::add_bytes(V::set_byte(7), V::move_bits(bits, -14, 2));  // 7 or 9 in the first byte
      for (int k = 0; k < 8; ++k) out->codes[k] = V::subtract(codes[k], V::column_bytes(zero, k % 2));
      drop_bits<V, 16>(bits);
    }
  }
};

template <typename V>
struct IQ1_M : ScaledHalves<V> {
  using Base = ScaledHalves<V>;
  using Block = BlockIQ1_M;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    using Bytes = typename V::Bytes;
    Bytes low[8];
    Bytes high[4];  // for two blocks
    Bytes end[4];   // the last of them, then the scales of eight halves of blocks and four bits of d in each half
    V::load_transposed(rows, at + offsetof(Block, low), low);
    V::load_transposed(rows, at + offsetof(Block, low) + 16, low + 4);
    V::load_transposed(rows, at + offsetof(Block, high), high);
    V::load_transposed(rows, at + sizeof(Block) - 16, end);
    Bytes* scales = end + 2;
    const Bytes d_low = V::add_bytes(V::move_bits(scales[0], -12, 0xFU), V::move_bits(scales[0], -24, 0xF0U));
    const Bytes d_high = V::add_bytes(V::move_bits(scales[1], -4, 0xF00U), V::move_bits(scales[1], -16, 0xF000U));
    const typename V::Float d = V::mul(V::low_halves(V::add_bytes(d_low, d_high)), V::set(0.125F));
    for (int b = 0; b < 8; b += 2) {
      unpack_block(low[b], high[b / 2], d, scales[b / 4], out[b]);
      unpack_block(low[b + 1], high[b / 2], d, scales[b / 4], out[b + 1]);
      drop_bits<V, 4>(scales[b / 4]);
    }
  }

  [[gnu::always_inline]] static inline void unpack_block(typename V::Bytes low, typename V::Bytes& bits,
                                                         typename V::Float d, typename V::Bytes& scales, Panel& out) {
    using Bytes = typename V::Bytes;
    out.scales[0] = V::mul(d, odd_number<V, 0, 3>(scales));
    out.scales[1] = V::mul(d, odd_number<V, 3, 3>(scales));
    Bytes codes[8];
    look_up_four<V>(iq1_grid.data(), WidePlaces<V, 0, 3, 1>(low, bits), codes);
    const Bytes first = V::add_bytes(V::move_bits(bits, -2, 0x2U), V::move_bits(bits, 2, 0x200U));
    const Bytes second = V::add_bytes(V::move_bits(bits, 6, 0x20000U), V::move_bits(bits, 10, 0x2000000U));
    const Bytes zeros = V::add_bytes(V::set_byte(7), V::add_bytes(first, second));  // 7 or 9 for eight columns
    for (int k = 0; k < 8; ++k) out.codes[k] = V::subtract(codes[k], V::column_bytes(zeros, k));
    drop_bits<V, 16>(bits);
    drop_bits<V, 6>(scales);
  }
};

template <typename V>
struct IQ2_XXS : ScaledHalves<V> {
  using Base = ScaledHalves<V>;
  using Block = BlockIQ2_XXS;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    const typename V::Float d = V::mul(V::load_halves(rows, at + offsetof(Block, d)), V::set(0.125F));
    typename V::Bytes words[16];  // for each block the places, then the signs and the scale
    for (std::size_t i = 0; i < 16; i += 4) V::load_transposed(rows, at + offsetof(Block, codes) + 4 * i, words + i);
    for (int b = 0; b < 8; ++b, ++out) {
      const typename V::Bytes signs = words[2 * b + 1];
      out->scales[0] = out->scales[1] = V::mul(d, odd_number<V, 28, 4>(signs));
      typename V::Bytes codes[8];
      look_up_four<V>(iq2_xxs_grid.data(), BytePlaces<V>(words[2 * b]), codes);
      apply_signs<V>(even_signs<V>(spread_sevens<V>(signs)), codes, out->codes);
    }
  }
};

template <typename V>
struct IQ2_XS : ScaledHalves<V> {
  using Base = ScaledHalves<V>;
  using Block = BlockIQ2_XS;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    using Bytes = typename V::Bytes;
    const typename V::Float d = V::mul(V::load_halves(rows, at + offsetof(Block, d)), V::set(0.125F));
    Bytes words[16];  // two codes each
    for (std::size_t i = 0; i < 16; i += 4) V::load_transposed(rows, at + offsetof(Block, codes) + 4 * i, words + i);
    Bytes end[4];  // the last codes, then the scales of eight halves of blocks
    V::load_transposed(rows, at + sizeof(Block) - 16, end);
    for (int b = 0; b < 8; ++b, ++out) {
      out->scales[0] = V::mul(d, odd_number<V, 0, 4>(end[2 + b / 4]));
      out->scales[1] = V::mul(d, odd_number<V, 4, 4>(end[2 + b / 4]));
      drop_bits<V, 8>(end[2 + b / 4]);
      const Bytes first = words[2 * b];
      const Bytes second = words[2 * b + 1];
      typename V::Bytes codes[8];
      look_up_four<V>(iq2_xs_grid.data(), Places(first, second), codes);
      const Bytes low = V::add_bytes(V::move_bits(first, -9, 0x7FU), V::move_bits(first, -17, 0x7F00U));
      const Bytes high = V::add_bytes(V::move_bits(second, 7, 0x7F0000U), V::move_bits(second, -1, 0x7F000000U));
      apply_signs<V>(even_signs<V>(V::add_bytes(low, high)), codes, out->codes);
    }
  }

  // The low nine bits of two codes in each lane of two vectors.
  struct Places {
    std::uint16_t numbers[2][2 * V::width];

    Places(typename V::Bytes first, typename V::Bytes second) {
      const typename V::Bytes words[2] = {V::move_bits(first, 0, 0x01FF01FFU), V::move_bits(second, 0, 0x01FF01FFU)};
      std::memcpy(numbers, words, sizeof(numbers));
    }
    const std::uint16_t* operator[](int i) const { return numbers[i / 2] + i % 2; }
  };
};

template <typename V>
struct IQ2_S : ScaledHalves<V> {
  using Base = ScaledHalves<V>;
  using Block = BlockIQ2_S;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    const typename V::Float d = V::mul(V::load_halves(rows, at + offsetof(Block, d)), V::set(0.125F));
    typename V::Bytes low[8];
    typename V::Bytes signs[8];
    typename V::Bytes end[4];  // the high bits of four blocks' places, then the scales of eight halves of blocks
    V::load_transposed(rows, at + offsetof(Block, low), low);
    V::load_transposed(rows, at + offsetof(Block, low) + 16, low + 4);
    V::load_transposed(rows, at + offsetof(Block, signs), signs);
    V::load_transposed(rows, at + offsetof(Block, signs) + 16, signs + 4);
    V::load_transposed(rows, at + offsetof(Block, high), end);
    for (int b = 0; b < 8; ++b, ++out) {
      out->scales[0] = V::mul(d, odd_number<V, 0, 4>(end[2 + b / 4]));
      out->scales[1] = V::mul(d, odd_number<V, 4, 4>(end[2 + b / 4]));
      typename V::Bytes codes[8];
      look_up_four<V>(iq2_s_grid.data(), WidePlaces<V, 0, 2>(low[b], end[b / 4]), codes);
      apply_signs<V>(signs[b], codes, out->codes);
      drop_bits<V, 8>(end[2 + b / 4]);
      drop_bits<V, 8>(end[b / 4]);
    }
  }
};

template <typename V>
struct IQ3_XXS : ScaledHalves<V> {
  using Base = ScaledHalves<V>;
  using Block = BlockIQ3_XXS;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    const typename V::Float d = V::mul(V::load_halves(rows, at + offsetof(Block, d)), V::set(0.25F));
    typename V::Bytes places[16];
    typename V::Bytes signs[8];  // and the scales
    for (std::size_t i = 0; i < 16; i += 4) V::load_transposed(rows, at + offsetof(Block, places) + 4 * i, places + i);
    V::load_transposed(rows, at + offsetof(Block, signs), signs);
    V::load_transposed(rows, at + offsetof(Block, signs) + 16, signs + 4);
    for (int b = 0; b < 8; ++b, ++out) {
      out->scales[0] = out->scales[1] = V::mul(d, odd_number<V, 28, 4>(signs[b]));
      typename V::Bytes codes[8];
      look_up_four<V>(iq3_xxs_grid.data(), BytePlaces<V>(places[2 * b]), codes);
      look_up_four<V>(iq3_xxs_grid.data(), BytePlaces<V>(places[2 * b + 1]), codes + 4);
      apply_signs<V>(even_signs<V>(spread_sevens<V>(signs[b])), codes, out->codes);
    }
  }
};

template <typename V>
struct IQ3_S : ScaledHalves<V> {
  using Base = ScaledHalves<V>;
  using Block = BlockIQ3_S;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    using Bytes = typename V::Bytes;
    const typename V::Float d = V::load_halves(rows, at + offsetof(Block, d));
    Bytes low[16];
    for (std::size_t i = 0; i < 16; i += 4) V::load_transposed(rows, at + offsetof(Block, low) + 4 * i, low + i);
    Bytes rest[11];  // the high bits of four blocks' places, the signs of a block, the scales
    V::load_transposed(rows, at + offsetof(Block, high), rest);
    V::load_transposed(rows, at + offsetof(Block, high) + 16, rest + 4);
    V::load_transposed(rows, at + sizeof(Block) - 16, rest + 7);
    const Bytes* signs = rest + 2;
    Bytes scales = rest[10];
    for (int b = 0; b < 8; ++b, ++out) {
      Bytes& high = rest[b / 4];
      out->scales[0] = out->scales[1] = V::mul(d, odd_number<V, 0, 4>(scales));
      typename V::Bytes codes[8];
      look_up_four<V>(iq3_s_grid.data(), WidePlaces<V, 0, 1>(low[2 * b], high), codes);
      look_up_four<V>(iq3_s_grid.data(), WidePlaces<V, 4, 1>(low[2 * b + 1], high), codes + 4);
      apply_signs<V>(signs[b], codes, out->codes);
      drop_bits<V, 4>(scales);
      drop_bits<V, 8>(high);
    }
  }
};

}  // namespace gemlet::kernels::simd
