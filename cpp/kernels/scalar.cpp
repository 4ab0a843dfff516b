#include <algorithm>
#include <cassert>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/half.hpp"
#include "kernels/scalar_weights.hpp"
#include "kernels/tables.hpp"

// The oracle: each kernel is its formula written down. Sums are taken in double, so that a faster kernel that differs
// is the one that is off.
namespace gemlet::kernels {
namespace {

// cache

float to_float(float x) { return x; }
float to_float(std::uint16_t x) { return half_to_float(x); }
float to_float(std::int8_t x) { return x; }

template <typename T>
void scores(const MatmulArgs& args) {
  const auto* q = static_cast<const float*>(args.activations);
  for (std::size_t t = 0; t < args.tokens; ++t, q += args.cols) {
    const auto* key = static_cast<const T*>(args.weights);
    for (std::size_t r = 0; r < args.rows; ++r, key += args.row_bytes / sizeof(T)) {
      double sum = 0;
      for (std::size_t d = 0; d < args.cols; ++d) {
        sum += static_cast<double>(q[d]) * static_cast<double>(to_float(key[d]));
      }
      args.out[t * args.out_stride + r] = static_cast<float>(sum);
    }
  }
}

// Sums in float, one position after the other: what was summed may be a part of a longer row.
template <typename T>
void accumulate(const AccumulateArgs& args) {
  for (std::size_t q = 0; q < args.queries; ++q) {
    const auto* value = static_cast<const T*>(args.values);
    float* acc = args.acc + q * args.head_dim;
    for (std::size_t i = 0; i < args.positions; ++i, value += args.head_dim) {
      const float weight = args.weights[q * args.stride + i];
      for (std::size_t d = 0; d < args.head_dim; ++d) acc[d] += weight * to_float(value[d]);
    }
  }
}

void store_f32(const float* x, std::size_t n, void* row, float*) { std::memcpy(row, x, n * sizeof(float)); }

void store_f16(const float* x, std::size_t n, void* row, float*) {
  std::transform(x, x + n, static_cast<std::uint16_t*>(row), float_to_half);
}

void store_int8(const float* x, std::size_t n, void* row, float* scale) {
  auto* out = static_cast<std::int8_t*>(row);
  float max = 0;
  bool finite = true;
  for (std::size_t i = 0; i < n; ++i) {
    max = std::max(max, std::fabs(x[i]));
    finite = finite && std::isfinite(x[i]);
  }
  *scale = max / 127.0F;
  if (finite && *scale >= FLT_MIN) {
    for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<std::int8_t>(std::nearbyint(x[i] / *scale));
    return;
  }
  *scale = finite ? 0.0F : std::numeric_limits<float>::quiet_NaN();
  std::fill_n(out, n, std::int8_t{0});
}

// elementwise

void quantize_activations(const float* x, ActivationBlock* out, std::size_t n) {
  assert(n % 32 == 0);
  for (const float* end = x + n; x != end; x += 32, ++out) {
    float max = 0;
    bool finite = true;
    for (std::size_t i = 0; i < 32; ++i) {
      max = std::max(max, std::fabs(x[i]));
      finite = finite && std::isfinite(x[i]);
    }
    *out = {};
    const float scale = max / 127.0F;
    if (!finite) {
      out->scale = out->sum = std::numeric_limits<float>::quiet_NaN();
    } else if (scale >= FLT_MIN) {
      out->scale = scale;
      int sums[2] = {};
      for (std::size_t i = 0; i < 32; ++i) {
        out->q[i] = static_cast<std::int8_t>(std::nearbyint(x[i] / scale));
        sums[i / 16] += out->q[i];
      }
      out->sum = scale * static_cast<float>(sums[0] + sums[1]);
      out->minus_8_sum = -8 * (sums[0] + sums[1]);
      out->half_sums[0] = static_cast<std::int16_t>(sums[0]);
      out->half_sums[1] = static_cast<std::int16_t>(sums[1]);
    }
  }
}

double sum_of_squares(const float* x, std::size_t n) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

float mean_square(const float* x, std::size_t n) {
  return static_cast<float>(sum_of_squares(x, n) / static_cast<double>(n));
}

void rms_norm(const float* x, const float* weight, float eps, float* out, std::size_t n) {
  const double mean = sum_of_squares(x, n) / static_cast<double>(n);
  const auto scale = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps)));
  for (std::size_t i = 0; i < n; ++i) out[i] = x[i] * scale * (weight != nullptr ? weight[i] : 1.0F);
}

struct Moments {
  double mean, variance;
};

Moments moments(const float* x, std::size_t n) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]);
  const double mean = sum / static_cast<double>(n);
  double squares = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double difference = static_cast<double>(x[i]) - mean;
    squares += difference * difference;
  }
  return {mean, squares / static_cast<double>(n)};
}

void layer_norm(const float* x, const float* weight, const float* bias, float eps, float* out, std::size_t n) {
  const auto [mean, variance] = moments(x, n);
  const double scale = 1.0 / std::sqrt(variance + static_cast<double>(eps));
  for (std::size_t i = 0; i < n; ++i) {
    out[i] = static_cast<float>((static_cast<double>(x[i]) - mean) * scale) * weight[i] + bias[i];
  }
}

void rope(float* x, const float* cos, const float* sin, std::size_t n) {
  assert(n % 2 == 0);
  const std::size_t half = n / 2;
  for (std::size_t i = 0; i < half; ++i) {
    const float a = x[i];
    const float b = x[i + half];
    x[i] = a * cos[i] - b * sin[i];
    x[i + half] = b * cos[i] + a * sin[i];
  }
}

float softmax_piece(float* x, std::size_t n, float* max, float* sum) {
  const float before = *max;
  for (std::size_t i = 0; i < n; ++i) *max = std::max(*max, x[i]);  // skips NaN, which reaches the sum
  double piece = 0;
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = std::exp(x[i] - *max);
    piece += static_cast<double>(x[i]);
  }
  const float factor = std::exp(before - *max);
  *sum = *sum * factor + static_cast<float>(piece);
  return factor;
}

void sigmoid_mul(float* x, const float* gate, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = static_cast<float>(static_cast<double>(x[i]) / (1.0 + std::exp(-static_cast<double>(gate[i]))));
  }
}

void depthwise(const DepthwiseArgs& args) {
  for (std::size_t c = 0; c < args.channels; ++c) {
    double sum = 0;
    for (std::size_t i = 0; i < args.count; ++i) {
      if (args.taps[i] == nullptr) continue;
      sum += static_cast<double>(args.weights[i * args.channels + c]) * static_cast<double>(args.taps[i][c]);
    }
    args.out[c] = static_cast<float>(sum);
  }
}

void gelu_mul(float* gate, const float* up, std::size_t n) {
  constexpr double sqrt_2_over_pi = 0.79788456080286536;
  for (std::size_t i = 0; i < n; ++i) {
    const auto x = static_cast<double>(gate[i]);
    const double gelu = 0.5 * x * (1 + std::tanh(sqrt_2_over_pi * (x + 0.044715 * x * x * x)));
    gate[i] = static_cast<float>(gelu) * (up == nullptr ? 1.0F : up[i]);
  }
}

void gaussian_topk(float* gate, float multiplier, std::size_t n) {
  const auto [mean, variance] = moments(gate, n);
  const double deviation = std::sqrt(variance);
  const auto cutoff = static_cast<float>(mean + static_cast<double>(multiplier) * deviation);
  for (std::size_t i = 0; i < n; ++i) {
    const float above = gate[i] - cutoff;
    gate[i] = above < 0 ? 0.0F : above;  // NaN stays
  }
}

void axpy(float a, const float* x, float* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] += a * x[i];
}

void add(const float* x, float* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] += x[i];
}

void mul(const float* x, float* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] *= x[i];
}

void scale(float a, float* x, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) x[i] *= a;
}

void soft_cap(float* x, float cap, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) x[i] = cap * std::tanh(x[i] / cap);
}

// Eight sums, as a compiler's own vectorising wants them.
template <typename T, typename Sum>
std::size_t peak(const std::uint8_t* data, std::size_t rounds, float* out) {
  constexpr std::size_t half = peak_data_bytes / 2 / sizeof(T);
  const auto* a = reinterpret_cast<const T*>(data);
  const T* b = a + half;
  Sum sums[8] = {};
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < half; i += 8) {
      for (std::size_t j = 0; j < 8; ++j) sums[j] += static_cast<Sum>(a[i + j]) * static_cast<Sum>(b[i + j]);
    }
  }
  *out = static_cast<float>(sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7]);
  return rounds * half;
}

constexpr Kernels make_table() {
  Kernels k{};
  k.name = "scalar";
  oracle::set_weights(k);
  k.peak = {peak<std::int8_t, std::uint32_t>, peak<std::int8_t, std::uint32_t>, peak<float, float>};
  k.cache_f16 = {scores<std::uint16_t>, accumulate<std::uint16_t>, store_f16};
  k.cache_f32 = {scores<float>, accumulate<float>, store_f32};
  k.cache_int8 = {scores<std::int8_t>, accumulate<std::int8_t>, store_int8};
  k.quantize_activations = quantize_activations;
  k.mean_square = mean_square;
  k.rms_norm = rms_norm;
  k.layer_norm = layer_norm;
  k.rope = rope;
  k.softmax_piece = softmax_piece;
  k.gelu_mul = gelu_mul;
  k.sigmoid_mul = sigmoid_mul;
  k.depthwise = depthwise;
  k.gaussian_topk = gaussian_topk;
  k.axpy = axpy;
  k.add = add;
  k.mul = mul;
  k.scale = scale;
  k.soft_cap = soft_cap;
  return k;
}

constexpr Kernels table = make_table();

}  // namespace

const Kernels& scalar() noexcept { return table; }

}  // namespace gemlet::kernels
