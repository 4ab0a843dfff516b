#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/blocks.hpp"
#include "kernels/simd_formats.hpp"
#include "kernels/simd_panels.hpp"

// How stored blocks of the types with scales for the parts of 256 weights are unpacked into panels, written once for
// every instruction set (see simd_float.hpp for `V`).
namespace gemlet::kernels::simd {

template <typename V>
struct Q2_K : TwoScalesWithMins<V, 2> {
  using Base = TwoScalesWithMins<V, 2>;
  using Block = BlockQ2_K;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    typename V::Bytes scales[4];
    V::load_transposed(rows, at + offsetof(Block, scales), scales);
    const typename V::Bytes halves = V::load_words(rows, at + offsetof(Block, d));
    const typename V::Float d = V::low_halves(halves);
    const typename V::Float dmin = V::high_halves(halves);
    for (int i = 0; i < 4; ++i) {  // four scales and mins serve two blocks
      const typename V::Bytes scale = V::template bits<0, 4>(scales[i]);
      const typename V::Bytes min = V::template bits<4, 4>(scales[i]);
      out[2 * i].scale = out[2 * i + 1].scale = d;
      out[2 * i].min = out[2 * i + 1].min = dmin;
      out[2 * i].scales = V::template two_scales<0>(scale);
      out[2 * i + 1].scales = V::template two_scales<2>(scale);
      out[2 * i].mins = V::template two_mins<0>(min);
      out[2 * i + 1].mins = V::template two_mins<2>(min);
    }
    load_quarters<V>(rows, at + offsetof(Block, codes), out);
    load_quarters<V>(rows, at + offsetof(Block, codes) + 32, out + 4);
  }
};

template <typename V>
struct Q3_K : TwoScales<V, 3, 4> {
  using Base = TwoScales<V, 3, 4>;
  using Block = BlockQ3_K;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    unpack_scales(rows, at, out);
    typename V::Bytes high[8];
    V::load_codes(rows, at + offsetof(Block, high), high);
    V::load_codes(rows, at + offsetof(Block, high) + 16, high + 4);
    unpack_half<0>(rows, at + offsetof(Block, low), high, out);
    unpack_half<4>(rows, at + offsetof(Block, low) + 32, high, out + 4);
  }

  // Of the twelve bytes of scales the first eight hold the low four bits of two each, the last four the high two bits
  // of four each; 32 is to be subtracted. No byte behind the block is read.
  static void unpack_scales(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    using Bytes = typename V::Bytes;
    Bytes packed[4];  // the last of the codes, then the scales
    V::load_transposed(rows, at + offsetof(Block, scales) - 4, packed);
    const Bytes scales[4] = {V::template merge<0, 2, 4>(V::template bits<0, 4>(packed[1]), packed[3]),
                             V::template merge<2, 2, 4>(V::template bits<0, 4>(packed[2]), packed[3]),
                             V::template merge<4, 2, 4>(V::template bits<4, 4>(packed[1]), packed[3]),
                             V::template merge<6, 2, 4>(V::template bits<4, 4>(packed[2]), packed[3])};
    const typename V::Float d = V::high_halves(V::load_words(rows, at + offsetof(Block, d) - 2));
    for (int i = 0; i < 4; ++i) {
      const Bytes centred = V::subtract(scales[i], V::set_byte(32));
      out[2 * i].scale = out[2 * i + 1].scale = d;
      out[2 * i].scales = V::template two_scales<0>(centred);
      out[2 * i + 1].scales = V::template two_scales<2>(centred);
    }
  }

  template <int j>
  static void unpack_half(const std::uint8_t* const* rows, std::size_t at, const typename V::Bytes* high, Panel* out) {
    for (std::size_t k = 0; k < 8; k += 4) {
      typename V::Bytes low[4];
      V::load_codes(rows, at + 4 * k, low);
      for (std::size_t i = 0; i < 4; ++i) {
        out[0].codes[k + i] = V::template merge<j, 1, 2>(V::template bits<0, 2>(low[i]), high[k + i]);
        out[1].codes[k + i] = V::template merge<j + 1, 1, 2>(V::template bits<2, 2>(low[i]), high[k + i]);
        out[2].codes[k + i] = V::template merge<j + 2, 1, 2>(V::template bits<4, 2>(low[i]), high[k + i]);
        out[3].codes[k + i] = V::template merge<j + 3, 1, 2>(V::template bits<6, 2>(low[i]), high[k + i]);
      }
    }
  }
};

// Byte j of each lane as a float.
template <typename V>
typename V::Float lane_byte(typename V::Bytes x, std::size_t j) {
  switch (j) {
    case 0:
      return V::template lane_bits<0, 8>(x);
    case 1:
      return V::template lane_bits<8, 8>(x);
    case 2:
      return V::template lane_bits<16, 8>(x);
    default:
      return V::template lane_bits<24, 8>(x);
  }
}

// The first 16 bytes of Q4_K and Q5_K: d, dmin and twelve bytes with eight 6-bit scales and mins. The last four bytes
// hold the low four bits of scales and mins 4 to 7, their high two bits are on top of scales and mins 0 to 3.
template <typename V, typename Panel>
void unpack_scales(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
  using Bytes = typename V::Bytes;
  using Float = typename V::Float;
  Bytes header[4];
  V::load_transposed(rows, at, header);
  const Float d = V::low_halves(header[0]);
  const Float dmin = V::high_halves(header[0]);
  const Bytes scales[2] = {V::template bits<0, 6>(header[1]),
                           V::template merge<6, 2, 4>(V::template bits<0, 4>(header[3]), header[1])};
  const Bytes mins[2] = {V::template bits<0, 6>(header[2]),
                         V::template merge<6, 2, 4>(V::template bits<4, 4>(header[3]), header[2])};
  for (std::size_t j = 0; j < 8; ++j) {
    out[j].scale = V::mul(d, lane_byte<V>(scales[j / 4], j % 4));
    out[j].min = V::mul(dmin, lane_byte<V>(mins[j / 4], j % 4));
  }
}

template <typename V>
struct Q4_K : WithMin<V, 4> {
  using Base = WithMin<V, 4>;
  using Block = BlockQ4_K;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    unpack_scales<V>(rows, at, out);
    for (std::size_t j = 0; j < 8; j += 2) {
      for (std::size_t k = 0; k < 8; k += 4) {
        typename V::Bytes packed[4];
        V::load_codes(rows, at + offsetof(Block, nibbles) + 16 * j + 4 * k, packed);
        for (std::size_t i = 0; i < 4; ++i) {
          out[j].codes[k + i] = V::template bits<0, 4>(packed[i]);
          out[j + 1].codes[k + i] = V::template bits<4, 4>(packed[i]);
        }
      }
    }
  }
};

template <typename V>
struct Q5_K : WithMin<V, 5> {
  using Base = WithMin<V, 5>;
  using Block = BlockQ5_K;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    unpack_scales<V>(rows, at, out);
    typename V::Bytes high[8];
    V::load_codes(rows, at + offsetof(Block, high), high);
    V::load_codes(rows, at + offsetof(Block, high) + 16, high + 4);
    unpack_pair<0>(rows, at, high, out);
    unpack_pair<2>(rows, at, high, out);
    unpack_pair<4>(rows, at, high, out);
    unpack_pair<6>(rows, at, high, out);
  }

  template <int j>
  static void unpack_pair(const std::uint8_t* const* rows, std::size_t at, const typename V::Bytes* high, Panel* out) {
    for (std::size_t k = 0; k < 8; k += 4) {
      typename V::Bytes packed[4];
      V::load_codes(rows, at + offsetof(Block, nibbles) + 16 * j + 4 * k, packed);
      for (std::size_t i = 0; i < 4; ++i) {
        out[j].codes[k + i] = V::template merge<j, 1, 4>(V::template bits<0, 4>(packed[i]), high[k + i]);
        out[j + 1].codes[k + i] = V::template merge<j + 1, 1, 4>(V::template bits<4, 4>(packed[i]), high[k + i]);
      }
    }
  }
};

template <typename V>
struct Q6_K : TwoScales<V, 6, 32> {
  using Base = TwoScales<V, 6, 32>;
  using Block = BlockQ6_K;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    typename V::Bytes scales[4];
    typename V::Bytes end[4];  // the last 16 bytes: the scales but the first two, and d
    V::load_transposed(rows, at + offsetof(Block, scales), scales);
    V::load_transposed(rows, at + sizeof(Block) - 16, end);
    const typename V::Float d = V::high_halves(end[3]);
    for (int i = 0; i < 4; ++i) {  // four scales serve two blocks
      out[2 * i].scale = out[2 * i + 1].scale = d;
      out[2 * i].scales = V::template two_scales<0>(scales[i]);
      out[2 * i + 1].scales = V::template two_scales<2>(scales[i]);
    }
    for (std::size_t half = 0; half < 2; ++half) {
      for (std::size_t k = 0; k < 8; k += 4) {
        typename V::Bytes a[4];
        typename V::Bytes b[4];
        typename V::Bytes high[4];
        V::load_codes(rows, at + offsetof(Block, low) + 64 * half + 4 * k, a);
        V::load_codes(rows, at + offsetof(Block, low) + 64 * half + 32 + 4 * k, b);
        V::load_codes(rows, at + offsetof(Block, high) + 32 * half + 4 * k, high);
        Panel* quarter = out + 4 * half;
        for (std::size_t i = 0; i < 4; ++i) {
          quarter[0].codes[k + i] = V::template merge<0, 2, 4>(V::template bits<0, 4>(a[i]), high[i]);
          quarter[1].codes[k + i] = V::template merge<2, 2, 4>(V::template bits<0, 4>(b[i]), high[i]);
          quarter[2].codes[k + i] = V::template merge<4, 2, 4>(V::template bits<4, 4>(a[i]), high[i]);
          quarter[3].codes[k + i] = V::template merge<6, 2, 4>(V::template bits<4, 4>(b[i]), high[i]);
        }
      }
    }
  }
};

template <typename V>
struct IQ4_XS : Centred<V, 8, 0> {
  using Base = Centred<V, 8, 0>;
  using Block = BlockIQ4_XS;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    typename V::Bytes header[4];  // d and scales_high, then scales_low
    V::load_transposed(rows, at, header);
    const typename V::Float d = V::low_halves(header[0]);
    unpack_scales(header, d, out, std::make_integer_sequence<int, 8>());
    for (std::size_t j = 0; j < 8; ++j) {
      load_values<V>(rows, at + offsetof(Block, nibbles) + 16 * j, iq4_values, out[j].codes);
    }
  }

  template <int... j>
  static void unpack_scales(const typename V::Bytes* header, typename V::Float d, Panel* out,
                            std::integer_sequence<int, j...>) {
    ((out[j].scale = V::mul(d, scale<j>(header))), ...);
  }
  template <int j>
  static typename V::Float scale(const typename V::Bytes* header) {
    const typename V::Float high = V::template lane_bits<16 + 2 * j, 2>(header[0]);
    const typename V::Float low = V::template lane_bits<4 * j, 4>(header[1]);
    return V::sub(V::fma(high, V::set(16.0F), low), V::set(32.0F));
  }
};

}  // namespace gemlet::kernels::simd
