#pragma once

#include <cstddef>

#include "kernels/blocks.hpp"

// What stored rows stand for, each type by its formula; bit-exact with the `gguf` package. n, a number of weights, is a
// multiple of the type's block.
namespace gemlet::kernels {

using DequantizeFn = void(const void* row, float* out, std::size_t n);

DequantizeFn dequantize_f32, dequantize_f16, dequantize_bf16;
DequantizeFn dequantize_q4_0, dequantize_q4_1, dequantize_q5_0, dequantize_q5_1, dequantize_q8_0;
DequantizeFn dequantize_q2_k, dequantize_q3_k, dequantize_q4_k, dequantize_q5_k, dequantize_q6_k;
DequantizeFn dequantize_iq4_nl, dequantize_iq4_xs, dequantize_mxfp4, dequantize_nvfp4, dequantize_q1_0,
    dequantize_tq2_0;
DequantizeFn dequantize_iq1_s, dequantize_iq1_m, dequantize_iq2_xxs, dequantize_iq2_xs, dequantize_iq2_s,
    dequantize_iq3_xxs, dequantize_iq3_s, dequantize_tq1_0;

}  // namespace gemlet::kernels
