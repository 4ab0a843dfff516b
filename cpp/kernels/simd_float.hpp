#pragma once

#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/kernels.hpp"

// The kernels on floats, written once for every instruction set. `V` names one: V::Float is a vector of V::width
// floats, V::Wide the same number of doubles, and its static functions are the operations. Each file that is compiled
// for an instruction set defines its V in an anonymous namespace, which gives everything instantiated with it internal
// linkage: no such code can replace, at link time, code meant for a lesser CPU. Nothing but templates belongs here.
//
// Reductions run in double where a row is normalised, in V::width float lanes where it is multiplied by weights.
namespace gemlet::kernels::simd {

template <typename V>
typename V::Float load_part(const float* p, std::size_t n) {
  float buffer[V::width] = {};
  std::memcpy(buffer, p, n * sizeof(float));
  return V::load(buffer);
}

template <typename V>
void store_part(float* p, typename V::Float x, std::size_t n) {
  if (n == V::width) return V::store(p, x);
  float buffer[V::width];
  V::store(buffer, x);
  std::memcpy(p, buffer, n * sizeof(float));
}

// y[i] = f(y[i], x[i]...) for whole vectors, then for what is left.
template <typename V, typename F, typename... X>
void map(F f, std::size_t n, float* y, const X*... x) {
  std::size_t i = 0;
  for (; i + V::width <= n; i += V::width) V::store(y + i, f(V::load(y + i), V::load(x + i)...));
  if (i < n) store_part<V>(y + i, f(load_part<V>(y + i, n - i), load_part<V>(x + i, n - i)...), n - i);
}

// e^x within 2 units in the last place, denormal results and overflow to infinity included. x = k ln 2 + r with
// |r| <= ln(2) / 2, and e^r = 1 + r + r^2 P(r); P interpolates at Chebyshev nodes, relative error 1.1e-8.
template <typename V>
typename V::Float exp(typename V::Float x) {
  using Float = typename V::Float;
  x = V::max(V::set(-105.0F), V::min(V::set(90.0F), x));
  const Float k = V::round(V::mul(x, V::set(1.44269504F)));
  Float r = V::fnma(k, V::set(0.693359375F), x);  // 9 bits of ln 2: the product is exact
  r = V::fnma(k, V::set(-2.12194440e-4F), r);
  Float p = V::set(0.001392625F);
  p = V::fma(p, r, V::set(0.008363233F));
  p = V::fma(p, r, V::set(0.041666552F));
  p = V::fma(p, r, V::set(0.16666576F));
  p = V::fma(p, r, V::set(0.5F));
  p = V::add(V::set(1.0F), V::fma(V::mul(r, r), p, r));
  const Float k1 = V::round(V::mul(k, V::set(0.5F)));  // 2^k in two steps, as it may itself be out of range
  return V::mul(V::mul(p, V::pow2(k1)), V::pow2(V::sub(k, k1)));
}

// tanh x within 3 units in the last place: x + x^3 P(x^2) near zero, 1 - 2 / (e^2x + 1) further out.
template <typename V>
typename V::Float tanh(typename V::Float x) {
  using Float = typename V::Float;
  const Float magnitude = V::abs(x);
  const Float z = V::mul(x, x);
  Float p = V::set(-0.006096714176237583F);
  p = V::fma(p, z, V::set(0.020997179672122F));
  p = V::fma(p, z, V::set(-0.05385090783238411F));
  p = V::fma(p, z, V::set(0.1333276927471161F));
  p = V::fma(p, z, V::set(-0.333333283662796F));
  const Float near = V::fma(V::mul(p, z), x, x);
  const Float e = V::add(exp<V>(V::add(magnitude, magnitude)), V::set(1.0F));
  const Float far = V::sub(V::set(1.0F), V::div(V::set(2.0F), e));
  return V::copy_sign(V::select_less(magnitude, V::set(0.625F), near, far), x);
}

template <typename V>
double sum_of_squares(const float* x, std::size_t n) {
  typename V::Wide wide = V::wide_zero();
  std::size_t i = 0;
  for (; i + V::width <= n; i += V::width) {
    const typename V::Float v = V::load(x + i);
    wide = V::wide_fma(v, v, wide);
  }
  double sum = V::wide_sum(wide);
  for (; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

template <typename V>
float mean_square(const float* x, std::size_t n) {
  return static_cast<float>(sum_of_squares<V>(x, n) / static_cast<double>(n));
}

template <typename V>
void rms_norm(const float* x, const float* weight, float eps, float* out, std::size_t n) {
  using Float = typename V::Float;
  const double mean = sum_of_squares<V>(x, n) / static_cast<double>(n);
  const Float scale = V::set(static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps))));
  if (out != x) std::memcpy(out, x, n * sizeof(float));
  if (weight == nullptr) {
    map<V>([scale](Float v) { return V::mul(v, scale); }, n, out);
  } else {
    map<V>([scale](Float v, Float w) { return V::mul(V::mul(v, scale), w); }, n, out, weight);
  }
}

template <typename V>
struct Moments {
  float near_mean;  // the nearest float to the mean
  double mean, variance;
};

template <typename V>
Moments<V> moments(const float* x, std::size_t n) {
  typename V::Wide wide = V::wide_zero();
  std::size_t i = 0;
  for (; i + V::width <= n; i += V::width) wide = V::wide_fma(V::load(x + i), V::set(1.0F), wide);
  double sum = V::wide_sum(wide);
  for (; i < n; ++i) sum += static_cast<double>(x[i]);
  const double mean = sum / static_cast<double>(n);

  // Squares around a float m: sum (x - mean)^2 = sum (x - m)^2 - n (mean - m)^2.
  const auto near_mean = static_cast<float>(mean);
  wide = V::wide_zero();
  for (i = 0; i + V::width <= n; i += V::width) {
    const typename V::Float difference = V::sub(V::load(x + i), V::set(near_mean));
    wide = V::wide_fma(difference, difference, wide);
  }
  double squares = V::wide_sum(wide);
  for (; i < n; ++i) {
    const double difference = static_cast<double>(x[i]) - static_cast<double>(near_mean);
    squares += difference * difference;
  }
  const double offset = mean - static_cast<double>(near_mean);
  const double variance = squares / static_cast<double>(n) - offset * offset;
  return {near_mean, mean, variance < 0 ? 0.0 : variance};
}

template <typename V>
void layer_norm(const float* x, const float* weight, const float* bias, float eps, float* out, std::size_t n) {
  using Float = typename V::Float;
  const Moments<V> found = moments<V>(x, n);
  const Float near = V::set(found.near_mean);
  const Float offset = V::set(static_cast<float>(found.mean - static_cast<double>(found.near_mean)));
  const Float scale = V::set(static_cast<float>(1.0 / std::sqrt(found.variance + static_cast<double>(eps))));
  if (out != x) std::memcpy(out, x, n * sizeof(float));
  const auto normed = [=](Float v) { return V::mul(V::sub(V::sub(v, near), offset), scale); };
  map<V>([=](Float v, Float w, Float b) { return V::fma(normed(v), w, b); }, n, out, weight, bias);
}

template <typename V>
void rope(float* x, const float* cos, const float* sin, std::size_t n) {
  using Float = typename V::Float;
  const std::size_t half = n / 2;
  float* y = x + half;
  const auto first = [](Float a, Float b, Float c, Float s) { return V::fnma(b, s, V::mul(a, c)); };
  const auto second = [](Float a, Float b, Float c, Float s) { return V::fma(a, s, V::mul(b, c)); };
  std::size_t i = 0;
  for (; i + V::width <= half; i += V::width) {
    const Float a = V::load(x + i), b = V::load(y + i), c = V::load(cos + i), s = V::load(sin + i);
    V::store(x + i, first(a, b, c, s));
    V::store(y + i, second(a, b, c, s));
  }
  if (const std::size_t rest = half - i; rest > 0) {
    const Float a = load_part<V>(x + i, rest), b = load_part<V>(y + i, rest);
    const Float c = load_part<V>(cos + i, rest), s = load_part<V>(sin + i, rest);
    store_part<V>(x + i, first(a, b, c, s), rest);
    store_part<V>(y + i, second(a, b, c, s), rest);
  }
}

template <typename V>
float softmax_piece(float* x, std::size_t n, float* max, float* sum) {
  using Float = typename V::Float;
  float lanes[V::width];
  Float vector_max = V::set(*max);
  std::size_t i = 0;
  for (; i + V::width <= n; i += V::width) vector_max = V::max(vector_max, V::load(x + i));
  V::store(lanes, vector_max);
  float largest = lanes[0];
  for (const float lane : lanes) largest = lane > largest ? lane : largest;
  for (; i < n; ++i) largest = x[i] > largest ? x[i] : largest;  // may miss a NaN, which reaches the sum

  const Float shift = V::set(largest);
  const auto weight = [shift](Float v) { return exp<V>(V::sub(v, shift)); };
  Float sums = V::set(0.0F);
  for (i = 0; i + V::width <= n; i += V::width) {
    const Float weights = weight(V::load(x + i));
    V::store(x + i, weights);
    sums = V::add(sums, weights);
  }
  float piece = V::sum(sums);
  if (const std::size_t rest = n - i; rest > 0) {
    store_part<V>(x + i, weight(load_part<V>(x + i, rest)), rest);
    for (; i < n; ++i) piece += x[i];
  }
  V::store(lanes, weight(V::set(*max)));
  *max = largest;
  *sum = *sum * lanes[0] + piece;
  return lanes[0];
}

// As x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3): 1 + tanh(u) without its cancellation for negative u.
template <typename V>
typename V::Float gelu(typename V::Float x) {
  const typename V::Float cubic = V::fma(V::mul(x, x), V::set(0.044715F), V::set(1.0F));
  const typename V::Float e = exp<V>(V::mul(V::mul(x, cubic), V::set(-2.0F * 0.79788456080286536F)));
  return V::div(x, V::add(V::set(1.0F), e));
}

template <typename V>
void gelu_mul(float* gate, const float* up, std::size_t n) {
  using Float = typename V::Float;
  if (up == nullptr) {
    map<V>([](Float x) { return gelu<V>(x); }, n, gate);
  } else {
    map<V>([](Float x, Float u) { return V::mul(gelu<V>(x), u); }, n, gate, up);
  }
}

template <typename V>
void sigmoid_mul(float* x, const float* gate, std::size_t n) {
  using Float = typename V::Float;
  map<V>([](Float v, Float g) { return V::div(v, V::add(V::set(1.0F), exp<V>(V::sub(V::set(0.0F), g)))); }, n, x, gate);
}

template <typename V>
void depthwise(const DepthwiseArgs& args) {
  constexpr std::size_t sums = 4;  // vectors at a time: as many hide the latency of one
  std::size_t c = 0;
  for (; c + sums * V::width <= args.channels; c += sums * V::width) {
    typename V::Float sum[sums] = {V::set(0.0F), V::set(0.0F), V::set(0.0F), V::set(0.0F)};
    for (std::size_t i = 0; i < args.count; ++i) {
      if (args.taps[i] == nullptr) continue;
      const float* weights = args.weights + i * args.channels + c;
      for (std::size_t j = 0; j < sums; ++j) {
        sum[j] = V::fma(V::load(weights + j * V::width), V::load(args.taps[i] + c + j * V::width), sum[j]);
      }
    }
    for (std::size_t j = 0; j < sums; ++j) V::store(args.out + c + j * V::width, sum[j]);
  }
  for (; c < args.channels; c += V::width) {
    const std::size_t n = args.channels - c < V::width ? args.channels - c : V::width;
    typename V::Float sum = V::set(0.0F);
    for (std::size_t i = 0; i < args.count; ++i) {
      if (args.taps[i] == nullptr) continue;
      sum = V::fma(load_part<V>(args.weights + i * args.channels + c, n), load_part<V>(args.taps[i] + c, n), sum);
    }
    store_part<V>(args.out + c, sum, n);
  }
}

template <typename V>
void gaussian_topk(float* gate, float multiplier, std::size_t n) {
  using Float = typename V::Float;
  const Moments<V> found = moments<V>(gate, n);
  const double deviation = std::sqrt(found.variance);
  const Float cutoff = V::set(static_cast<float>(found.mean + static_cast<double>(multiplier) * deviation));
  map<V>([cutoff](Float v) { return V::max(V::set(0.0F), V::sub(v, cutoff)); }, n, gate);
}

template <typename V>
void axpy(float a, const float* x, float* y, std::size_t n) {
  const typename V::Float factor = V::set(a);
  map<V>([factor](auto b, auto c) { return V::fma(factor, c, b); }, n, y, x);
}

template <typename V>
void add(const float* x, float* y, std::size_t n) {
  map<V>([](auto a, auto b) { return V::add(a, b); }, n, y, x);
}

template <typename V>
void mul(const float* x, float* y, std::size_t n) {
  map<V>([](auto a, auto b) { return V::mul(a, b); }, n, y, x);
}

template <typename V>
void scale(float a, float* x, std::size_t n) {
  const typename V::Float factor = V::set(a);
  map<V>([factor](auto v) { return V::mul(v, factor); }, n, x);
}

template <typename V>
void soft_cap(float* x, float cap, std::size_t n) {
  const typename V::Float c = V::set(cap);
  map<V>([c](auto v) { return V::mul(c, tanh<V>(V::div(v, c))); }, n, x);
}

template <typename V>
void quantize_activations(const float* x, ActivationBlock* out, std::size_t n) {
  using Float = typename V::Float;
  constexpr std::size_t vectors = 32 / V::width;
  for (const float* end = x + n; x != end; x += 32, ++out) {
    Float max = V::set(0.0F);
    Float zeros = V::set(0.0F);  // x * 0 is zero, or NaN where x is not finite
    for (std::size_t i = 0; i < vectors; ++i) {
      const Float v = V::load(x + i * V::width);
      max = V::max(max, V::abs(v));
      zeros = V::fma(v, V::set(0.0F), zeros);
    }
    float lanes[V::width];
    V::store(lanes, max);
    float largest = 0;
    for (const float lane : lanes) largest = lane > largest ? lane : largest;
    const float scale = largest / 127.0F;
    const bool finite = V::sum(zeros) == 0;
    if (!finite || !(scale >= FLT_MIN)) {
      *out = {};
      if (!finite) out->scale = out->sum = std::numeric_limits<float>::quiet_NaN();
      continue;
    }
    Float sums[2] = {V::set(0.0F), V::set(0.0F)};  // of small whole numbers: exact in any order
    for (std::size_t i = 0; i < vectors; ++i) {
      const Float q = V::round(V::div(V::load(x + i * V::width), V::set(scale)));
      V::store_int8(out->q + i * V::width, q);
      sums[i / (vectors / 2)] = V::add(sums[i / (vectors / 2)], q);
    }
    const float halves[2] = {V::sum(sums[0]), V::sum(sums[1])};
    out->scale = scale;
    out->sum = scale * (halves[0] + halves[1]);
    out->minus_8_sum = static_cast<std::int32_t>(-8.0F * (halves[0] + halves[1]));
    out->half_sums[0] = static_cast<std::int16_t>(halves[0]);
    out->half_sums[1] = static_cast<std::int16_t>(halves[1]);
  }
}

// How a stored number becomes a float.
template <typename V>
struct F32 {
  using Stored = float;
  static typename V::Float load(const Stored* p) { return V::load(p); }
};
template <typename V>
struct F16 {
  using Stored = std::uint16_t;
  static typename V::Float load(const Stored* p) { return V::load_f16(p); }
};
template <typename V>
struct BF16 {
  using Stored = std::uint16_t;
  static typename V::Float load(const Stored* p) { return V::load_bf16(p); }
};

template <typename V>
struct Int8 {
  using Stored = std::int8_t;
  static typename V::Float load(const Stored* p) { return V::load_int8(p); }
};

template <typename V, typename Format>
typename V::Float load_stored_part(const typename Format::Stored* p, std::size_t n) {
  typename Format::Stored buffer[V::width] = {};
  std::memcpy(buffer, p, n * sizeof(buffer[0]));
  return Format::load(buffer);
}

// One tile of R weight rows, `row` numbers apart, and T tokens. Each output has a vector of partial sums of its own, so
// that the tile's shape cannot change its value.
template <typename V, typename Format, int R, int T>
void dot_tile(const typename Format::Stored* w, std::size_t row, const float* x, std::size_t cols, float* out,
              std::size_t out_stride) {
  using Float = typename V::Float;
  Float sums[R][T];
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) sums[r][t] = V::set(0.0F);
  }
  const auto step = [&](const Float(&weights)[R], const Float(&values)[T]) {
    for (int t = 0; t < T; ++t) {
      for (int r = 0; r < R; ++r) sums[r][t] = V::fma(weights[r], values[t], sums[r][t]);
    }
  };
  Float weights[R];
  Float values[T];
  std::size_t c = 0;
  for (; c + V::width <= cols; c += V::width) {
    for (int r = 0; r < R; ++r) weights[r] = Format::load(w + r * row + c);
    for (int t = 0; t < T; ++t) values[t] = V::load(x + t * cols + c);
    step(weights, values);
  }
  if (const std::size_t rest = cols - c; rest > 0) {
    for (int r = 0; r < R; ++r) weights[r] = load_stored_part<V, Format>(w + r * row + c, rest);
    for (int t = 0; t < T; ++t) values[t] = load_part<V>(x + t * cols + c, rest);
    step(weights, values);
  }
  for (int t = 0; t < T; ++t) {
    for (int r = 0; r < R; ++r) out[t * out_stride + r] = V::sum(sums[r][t]);
  }
}

template <typename V, typename Format>
void matmul_float(const MatmulArgs& args) {
  const auto* w = static_cast<const typename Format::Stored*>(args.weights);
  const auto* x = static_cast<const float*>(args.activations);
  const std::size_t cols = args.cols;
  const std::size_t row = args.row_bytes / sizeof(*w);
  for (std::size_t r = 0; r < args.rows;) {
    const std::size_t rows = args.rows - r >= 2 && args.row_ids == nullptr ? 2 : 1;
    for (std::size_t t = 0; t < args.tokens;) {
      const std::size_t left = args.tokens - t;
      const std::size_t tokens = left >= 4 ? 4 : left >= 2 ? 2 : 1;
      const auto tile = rows == 2 ? (tokens == 4   ? dot_tile<V, Format, 2, 4>
                                     : tokens == 2 ? dot_tile<V, Format, 2, 2>
                                                   : dot_tile<V, Format, 2, 1>)
                                  : (tokens == 4   ? dot_tile<V, Format, 1, 4>
                                     : tokens == 2 ? dot_tile<V, Format, 1, 2>
                                                   : dot_tile<V, Format, 1, 1>);
      tile(w + args.row(r) * row, row, x + t * cols, cols, args.out + t * args.out_stride + r, args.out_stride);
      t += tokens;
    }
    r += rows;
  }
}

// acc[q][0 .. N vectors) += sum_i weights[q][i] * row i, for Q queries that share each load of a row; one position
// after the other: the same bits however the positions and the queries are grouped.
template <typename V, typename Format, int Q, int N>
void accumulate_tile(const AccumulateArgs& args, std::size_t query, std::size_t column) {
  const float* weights = args.weights + query * args.stride;
  const auto* value = static_cast<const typename Format::Stored*>(args.values) + column;
  float* acc = args.acc + query * args.head_dim + column;
  typename V::Float sums[Q][N];
  for (int q = 0; q < Q; ++q) {
    for (int j = 0; j < N; ++j) sums[q][j] = V::load(acc + q * args.head_dim + j * V::width);
  }
  for (std::size_t i = 0; i < args.positions; ++i, value += args.head_dim) {
    typename V::Float values[N];
    for (int j = 0; j < N; ++j) values[j] = Format::load(value + j * V::width);
    for (int q = 0; q < Q; ++q) {
      const typename V::Float weight = V::set(weights[q * args.stride + i]);
      for (int j = 0; j < N; ++j) sums[q][j] = V::fma(weight, values[j], sums[q][j]);
    }
  }
  for (int q = 0; q < Q; ++q) {
    for (int j = 0; j < N; ++j) V::store(acc + q * args.head_dim + j * V::width, sums[q][j]);
  }
}

// The columns behind the last whole vector.
template <typename V, typename Format>
void accumulate_rest(const AccumulateArgs& args, std::size_t query, std::size_t column) {
  const auto* value = static_cast<const typename Format::Stored*>(args.values) + column;
  float* acc = args.acc + query * args.head_dim + column;
  const std::size_t rest = args.head_dim - column;
  typename V::Float sum = load_part<V>(acc, rest);
  for (std::size_t i = 0; i < args.positions; ++i, value += args.head_dim) {
    const typename V::Float weight = V::set(args.weights[query * args.stride + i]);
    sum = V::fma(weight, load_stored_part<V, Format>(value, rest), sum);
  }
  store_part<V>(acc, sum, rest);
}

template <typename V, typename Format, int Q>
void accumulate_queries(const AccumulateArgs& args, std::size_t query) {
  constexpr int wide = 8 / Q;  // vectors at a time: eight sums hide the latency of one
  std::size_t d = 0;
  for (; d + wide * V::width <= args.head_dim; d += wide * V::width) {
    accumulate_tile<V, Format, Q, wide>(args, query, d);
  }
  for (; d + V::width <= args.head_dim; d += V::width) accumulate_tile<V, Format, Q, 1>(args, query, d);
  if (d < args.head_dim) {
    for (std::size_t q = query; q < query + Q; ++q) accumulate_rest<V, Format>(args, q, d);
  }
}

template <typename V, typename Format>
void accumulate(const AccumulateArgs& args) {
  std::size_t q = 0;
  for (; q + 4 <= args.queries; q += 4) accumulate_queries<V, Format, 4>(args, q);
  for (; q + 2 <= args.queries; q += 2) accumulate_queries<V, Format, 2>(args, q);
  if (q < args.queries) accumulate_queries<V, Format, 1>(args, q);
}

template <typename V>
void store_f16(const float* x, std::size_t n, void* row, float*) {
  auto* out = static_cast<std::uint16_t*>(row);
  std::size_t i = 0;
  for (; i + V::width <= n; i += V::width) V::store_f16(out + i, V::load(x + i));
  if (i < n) {
    std::uint16_t buffer[V::width];
    V::store_f16(buffer, load_part<V>(x + i, n - i));
    std::memcpy(out + i, buffer, (n - i) * sizeof(buffer[0]));
  }
}

}  // namespace gemlet::kernels::simd
