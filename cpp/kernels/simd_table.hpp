#pragma once

#include "kernels/simd_combine.hpp"
#include "kernels/simd_float.hpp"
#include "kernels/simd_formats.hpp"
#include "kernels/simd_iq_formats.hpp"
#include "kernels/simd_k_formats.hpp"
#include "kernels/simd_peak.hpp"
#include "kernels/simd_quantized.hpp"

namespace gemlet::kernels::simd {

/// The table of instruction set `V`. Rows are dequantised one at a time, for embeddings, by the scalar code.
template <typename V>
Kernels make_table(const char* name) {
  Kernels k = scalar();
  k.name = name;
  const auto matmul = [&k](DType type) -> auto& { return k.weights[static_cast<std::size_t>(type)].matmul; };
  matmul(DType::f32) = matmul_float<V, F32<V>>;
  matmul(DType::f16) = matmul_float<V, F16<V>>;
  matmul(DType::bf16) = matmul_float<V, BF16<V>>;
  matmul(DType::q4_0) = matmul_quantized<V, Q4_0<V>>;
  matmul(DType::q4_1) = matmul_quantized<V, Q4_1<V>>;
  matmul(DType::q5_0) = matmul_quantized<V, Q5_0<V>>;
  matmul(DType::q5_1) = matmul_quantized<V, Q5_1<V>>;
  matmul(DType::q8_0) = matmul_quantized<V, Q8_0<V>>;
  matmul(DType::q2_k) = matmul_quantized<V, Q2_K<V>>;
  matmul(DType::q3_k) = matmul_quantized<V, Q3_K<V>>;
  matmul(DType::q4_k) = matmul_quantized<V, Q4_K<V>>;
  matmul(DType::q5_k) = matmul_quantized<V, Q5_K<V>>;
  matmul(DType::q6_k) = matmul_quantized<V, Q6_K<V>>;
  matmul(DType::iq4_nl) = matmul_quantized<V, IQ4_NL<V>>;
  matmul(DType::iq4_xs) = matmul_quantized<V, IQ4_XS<V>>;
  matmul(DType::q1_0) = matmul_quantized<V, Q1_0<V>>;
  matmul(DType::tq1_0) = matmul_quantized<V, TQ1_0<V>>;
  matmul(DType::tq2_0) = matmul_quantized<V, TQ2_0<V>>;
  matmul(DType::mxfp4) = matmul_quantized<V, MXFP4<V>>;
  matmul(DType::nvfp4) = matmul_quantized<V, NVFP4<V>>;
  matmul(DType::iq1_s) = matmul_quantized<V, IQ1_S<V>>;
  matmul(DType::iq1_m) = matmul_quantized<V, IQ1_M<V>>;
  matmul(DType::iq2_xxs) = matmul_quantized<V, IQ2_XXS<V>>;
  matmul(DType::iq2_xs) = matmul_quantized<V, IQ2_XS<V>>;
  matmul(DType::iq2_s) = matmul_quantized<V, IQ2_S<V>>;
  matmul(DType::iq3_xxs) = matmul_quantized<V, IQ3_XXS<V>>;
  matmul(DType::iq3_s) = matmul_quantized<V, IQ3_S<V>>;
  k.weights[static_cast<std::size_t>(DType::q4_0)].combine = combine_quantized<V, CombineQ4_0<V>>;
  k.weights[static_cast<std::size_t>(DType::q8_0)].combine = combine_quantized<V, CombineQ8_0<V>>;
  k.peak = {peak_bytes<V, V::template in_a_row<8>>, peak_bytes<V, V::template in_a_row<4>>, peak_floats<V>};
  k.cache_f16 = {matmul_float<V, F16<V>>, accumulate<V, F16<V>>, store_f16<V>};
  k.cache_f32.scores = matmul_float<V, F32<V>>;
  k.cache_f32.accumulate = accumulate<V, F32<V>>;
  k.cache_int8.scores = matmul_float<V, Int8<V>>;
  k.cache_int8.accumulate = accumulate<V, Int8<V>>;
  k.quantize_activations = quantize_activations<V>;
  k.mean_square = mean_square<V>;
  k.rms_norm = rms_norm<V>;
  k.layer_norm = layer_norm<V>;
  k.rope = rope<V>;
  k.softmax_piece = softmax_piece<V>;
  k.gelu_mul = gelu_mul<V>;
  k.sigmoid_mul = sigmoid_mul<V>;
  k.depthwise = depthwise<V>;
  k.gaussian_topk = gaussian_topk<V>;
  k.axpy = axpy<V>;
  k.add = add<V>;
  k.mul = mul<V>;
  k.scale = scale<V>;
  k.soft_cap = soft_cap<V>;
  return k;
}

}  // namespace gemlet::kernels::simd
