#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/blocks.hpp"

// The quantised weight formats, written once for every instruction set (see simd_float.hpp for `V`). A panel is 32
// columns of V::width rows, one row to a lane. Its codes are in an order that only V::load_codes and V::dot know: four
// vectors for 16 columns. Each format says how a stored block is unpacked into panels, and how panels are multiplied by
// int8 activations:
//
//   sums[r][t] += scale * x.scale * sum(code * q), with the integer sum exact, for R panels and T tokens.
//
// Nothing in it depends on the other rows and tokens of the call.
namespace gemlet::kernels::simd {

/// sums += scale * x.scale * totals.
template <typename V, int R, int T, typename Panel>
void add_scaled(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T],
                const typename V::Ints (&totals)[R][T], typename V::Float (&sums)[R][T]) {
  for (int t = 0; t < T; ++t) {
    const typename V::Float x_scale = V::set(x[t]->scale);
    for (int r = 0; r < R; ++r) {
      sums[r][t] = V::fma(V::mul(w[r]->scale, x_scale), V::to_float(totals[r][t]), sums[r][t]);
    }
  }
}

/// A weight is scale * (code - centre).
template <typename V, int bits, int centre>
struct Centred {
  static_assert(centre == 0 || centre == 8);
  struct Panel {
    typename V::Bytes codes[8];
    typename V::Float scale;
  };

  template <int R, int T>
  static void dot(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], typename V::Float (&sums)[R][T]) {
    typename V::Ints totals[R][T];
    for (int t = 0; t < T; ++t) {
      for (int r = 0; r < R; ++r) totals[r][t] = V::set_int(centre == 0 ? 0 : x[t]->minus_8_sum);
    }
    V::template dot<bits, R, T>(w, x, totals);
    add_scaled<V>(w, x, totals, sums);
  }
};

/// A weight is scale * code - min.
template <typename V, int bits>
struct WithMin {
  struct Panel {
    typename V::Bytes codes[8];
    typename V::Float scale;
    typename V::Float min;
  };

  template <int R, int T>
  static void dot(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], typename V::Float (&sums)[R][T]) {
    typename V::Ints totals[R][T];
    for (int t = 0; t < T; ++t) {
      for (int r = 0; r < R; ++r) totals[r][t] = V::set_int(0);
    }
    V::template dot<bits, R, T>(w, x, totals);
    add_scaled<V>(w, x, totals, sums);
    for (int t = 0; t < T; ++t) {
      const typename V::Float x_sum = V::set(x[t]->sum);
      for (int r = 0; r < R; ++r) sums[r][t] = V::fnma(w[r]->min, x_sum, sums[r][t]);
    }
  }
};

/// A weight is scale * scales[i] * (code - 32), with an integer scale for each half of the columns: the sum of both
/// halves is an exact integer still, at most 2 * 16 * 63 * 127 * 128 < 2^25.
template <typename V>
struct TwoScales {
  struct Panel {
    typename V::Bytes codes[8];
    typename V::TwoScales scales;
    typename V::Float scale;
  };

  template <int R, int T>
  static void dot(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], typename V::Float (&sums)[R][T]) {
    typename V::Ints totals[R][T];
    V::template dot_two_scales<R, T>(w, x, totals);
    add_scaled<V>(w, x, totals, sums);
  }
};

template <typename V>
struct Q4_0 : Centred<V, 4, 8> {
  using Base = Centred<V, 4, 8>;
  using Block = BlockQ4_0;
  using Panel = typename Base::Panel;
  static constexpr std::size_t blocks = 1;  // of 32, in a stored block

  static void unpack(const std::uint8_t* const* rows, std::size_t at, Panel* out) {
    typename V::Bytes packed[4];
    V::load_codes(rows, at + offsetof(Block, nibbles), packed);
    for (int k = 0; k < 4; ++k) {
      out->codes[k] = V::template bits<0, 4>(packed[k]);
      out->codes[k + 4] = V::template bits<4, 4>(packed[k]);
    }
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

// Byte j of each lane as a float.
template <typename V>
typename V::Float lane_byte(typename V::Bytes x, std::size_t j) {
  switch (j) {
    case 0:
      return V::template unsigned_byte<0>(x);
    case 1:
      return V::template unsigned_byte<1>(x);
    case 2:
      return V::template unsigned_byte<2>(x);
    default:
      return V::template unsigned_byte<3>(x);
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
struct Q6_K : TwoScales<V> {
  using Base = TwoScales<V>;
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

}  // namespace gemlet::kernels::simd
