#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/blocks.hpp"

// How panels of quantised weights are multiplied by int8 activations, written once for every instruction set (see
// simd_float.hpp for `V`). A panel is 32 columns of V::width rows, one row to a lane. Its codes are in an order that
// only V::load_codes, V::column_bits and V::dot know: four vectors for 16 columns.
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
  static_assert(centre % 8 == 0);
  struct Panel {
    typename V::Bytes codes[8];
    typename V::Float scale;
  };

  template <int R, int T>
  static void dot(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], typename V::Float (&sums)[R][T]) {
    typename V::Ints totals[R][T];
    for (int t = 0; t < T; ++t) {
      for (int r = 0; r < R; ++r) totals[r][t] = V::set_int(centre / 8 * x[t]->minus_8_sum);
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

/// A weight is scale * scales[i] * (code - centre), with an integer scale for each half of the columns: the sum of both
/// halves is an exact integer still, of six bits and scales of eight at most 2 * 16 * 63 * 127 * 128 < 2^25.
template <typename V, int bits, int centre>
struct TwoScales {
  struct Panel {
    typename V::Bytes codes[8];
    typename V::TwoScales scales;
    typename V::Float scale;
  };

  template <int R, int T>
  static void dot(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], typename V::Float (&sums)[R][T]) {
    typename V::Ints totals[R][T];
    V::template dot_two_scales<bits, centre, R, T>(w, x, totals);
    add_scaled<V>(w, x, totals, sums);
  }
};

/// A weight is scale * scales[i] * code - min * mins[i], with an integer scale and min for each half of the columns.
template <typename V, int bits>
struct TwoScalesWithMins {
  struct Panel {
    typename V::Bytes codes[8];
    typename V::TwoScales scales;
    typename V::TwoMins mins;
    typename V::Float scale;
    typename V::Float min;
  };

  template <int R, int T>
  static void dot(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], typename V::Float (&sums)[R][T]) {
    typename V::Ints totals[R][T];
    V::template dot_two_scales<bits, 0, R, T>(w, x, totals);
    add_scaled<V>(w, x, totals, sums);
    for (int t = 0; t < T; ++t) {
      const typename V::Float x_scale = V::set(x[t]->scale);
      for (int r = 0; r < R; ++r) {
        const typename V::Float mins = V::to_float(V::dot_mins(w[r]->mins, *x[t]));
        sums[r][t] = V::fnma(V::mul(w[r]->min, x_scale), mins, sums[r][t]);
      }
    }
  }
};

/// A weight is scales[i] * code, with signed codes and a scale for each half of the columns.
template <typename V>
struct ScaledHalves {
  struct Panel {
    typename V::Bytes codes[8];
    typename V::Float scales[2];
  };

  template <int R, int T>
  static void dot(const Panel* const (&w)[R], const ActivationBlock* const (&x)[T], typename V::Float (&sums)[R][T]) {
    typename V::Ints first[R][T];
    typename V::Ints second[R][T];
    V::template dot_halves<R, T>(w, x, first, second);
    for (int t = 0; t < T; ++t) {
      const typename V::Float x_scale = V::set(x[t]->scale);
      for (int r = 0; r < R; ++r) {
        sums[r][t] = V::fma(V::mul(w[r]->scales[0], x_scale), V::to_float(first[r][t]), sums[r][t]);
        sums[r][t] = V::fma(V::mul(w[r]->scales[1], x_scale), V::to_float(second[r][t]), sums[r][t]);
      }
    }
  }
};

}  // namespace gemlet::kernels::simd
