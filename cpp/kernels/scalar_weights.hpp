#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>

#include "kernels/dequantize.hpp"
#include "kernels/kernels.hpp"

// The products of stored weights, of every type, for the oracle (scalar.cpp): the floats that the weights stand for are
// multiplied, so that the integer tricks of the other tables are checked against arithmetic that knows none of them.
namespace gemlet::kernels::oracle {

constexpr std::size_t panel = 256;     // weights unpacked at a time; a multiple of every block
constexpr std::size_t token_tile = 4;  // activation rows that share an unpacked panel

double dot_panel(const float* w, const float* x, std::size_t n) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(w[i]) * static_cast<double>(x[i]);
  return sum;
}

double dot_panel(const float* w, const ActivationBlock* x, std::size_t n) {
  double sum = 0;
  for (std::size_t b = 0; b < n / 32; ++b) {
    double block_sum = 0;
    for (std::size_t i = 0; i < 32; ++i) block_sum += static_cast<double>(w[32 * b + i]) * x[b].q[i];
    sum += block_sum * static_cast<double>(x[b].scale);
  }
  return sum;
}

template <typename Activation, DType type, DequantizeFn dequantize>
void matmul(const MatmulArgs& args) {
  constexpr std::size_t values = sizeof(Activation) == sizeof(float) ? 1 : 32;  // in one Activation
  assert(args.cols % values == 0);
  const auto* activations = static_cast<const Activation*>(args.activations);
  const std::size_t activation_row = args.cols / values;
  const DTypeTraits& stored = traits(type);
  for (std::size_t r = 0; r < args.rows; ++r) {
    const auto* weights = static_cast<const std::uint8_t*>(args.weights) + args.row(r) * args.row_bytes;
    for (std::size_t first = 0; first < args.tokens; first += token_tile) {
      const std::size_t tokens = std::min(token_tile, args.tokens - first);
      double sums[token_tile] = {};
      float w[panel];
      for (std::size_t c = 0; c < args.cols; c += panel) {
        const std::size_t n = std::min(panel, args.cols - c);
        dequantize(weights + c / stored.elements * stored.bytes, w, n);
        for (std::size_t t = 0; t < tokens; ++t) {
          sums[t] += dot_panel(w, activations + (first + t) * activation_row + c / values, n);
        }
      }
      for (std::size_t t = 0; t < tokens; ++t) {
        args.out[(first + t) * args.out_stride + r] = static_cast<float>(sums[t]);
      }
    }
  }
}

template <DType type, DequantizeFn dequantize>
void combine(const CombineArgs& args) {
  const DTypeTraits& stored = traits(type);
  for (std::size_t c = 0; c < args.cols; c += panel) {
    const std::size_t n = std::min(panel, args.cols - c);
    double sums[panel] = {};
    for (std::size_t i = 0; i < args.rows; ++i) {
      const auto* row = static_cast<const std::uint8_t*>(args.weights) + args.row_ids[i] * args.row_bytes;
      float w[panel];
      dequantize(row + c / stored.elements * stored.bytes, w, n);
      for (std::size_t j = 0; j < n; ++j) sums[j] += static_cast<double>(args.factors[i]) * static_cast<double>(w[j]);
    }
    for (std::size_t j = 0; j < n; ++j) args.out[c + j] = static_cast<float>(sums[j]);
  }
}

template <DType type, DequantizeFn dequantize, typename Activation = ActivationBlock>
constexpr void set(Kernels& k) {
  k.weights[static_cast<std::size_t>(type)] = {dequantize, matmul<Activation, type, dequantize>,
                                               sizeof(Activation) != sizeof(float), combine<type, dequantize>};
}

constexpr void set_weights(Kernels& k) {
  set<DType::f32, dequantize_f32, float>(k);
  set<DType::f16, dequantize_f16, float>(k);
  set<DType::bf16, dequantize_bf16, float>(k);
  set<DType::q4_0, dequantize_q4_0>(k);
  set<DType::q4_1, dequantize_q4_1>(k);
  set<DType::q5_0, dequantize_q5_0>(k);
  set<DType::q5_1, dequantize_q5_1>(k);
  set<DType::q8_0, dequantize_q8_0>(k);
  set<DType::q2_k, dequantize_q2_k>(k);
  set<DType::q3_k, dequantize_q3_k>(k);
  set<DType::q4_k, dequantize_q4_k>(k);
  set<DType::q5_k, dequantize_q5_k>(k);
  set<DType::q6_k, dequantize_q6_k>(k);
  set<DType::iq4_nl, dequantize_iq4_nl>(k);
  set<DType::iq4_xs, dequantize_iq4_xs>(k);
  set<DType::q1_0, dequantize_q1_0>(k);
  set<DType::tq1_0, dequantize_tq1_0>(k);
  set<DType::tq2_0, dequantize_tq2_0>(k);
  set<DType::mxfp4, dequantize_mxfp4>(k);
  set<DType::nvfp4, dequantize_nvfp4>(k);
  set<DType::iq1_s, dequantize_iq1_s>(k);
  set<DType::iq1_m, dequantize_iq1_m>(k);
  set<DType::iq2_xxs, dequantize_iq2_xxs>(k);
  set<DType::iq2_xs, dequantize_iq2_xs>(k);
  set<DType::iq2_s, dequantize_iq2_s>(k);
  set<DType::iq3_xxs, dequantize_iq3_xxs>(k);
  set<DType::iq3_s, dequantize_iq3_s>(k);
}

}  // namespace gemlet::kernels::oracle
