#pragma once

#include <cstddef>

#include "tensor/compute.hpp"

namespace gemlet {

/// Of every RMSNorm of both Gemma 3n encoders. Published files give other values in their keys, which are wrong.
inline constexpr float encoder_norm_eps = 1e-6F;

/// RMSNorm of each row of `x`, float[rows][width], in place; a null weight means ones.
inline void norm_rows(float* x, const float* weight, std::size_t width, std::size_t rows, Compute& compute) {
  compute.each_token(rows, [&](std::size_t t) {
    compute.kernels().rms_norm(x + t * width, weight, encoder_norm_eps, x + t * width, width);
  });
}

}  // namespace gemlet
