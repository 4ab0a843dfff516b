#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.hpp"

// The most multiply-adds that an instruction set can do (see simd_float.hpp for `V`): a tile of sums in registers over
// operands in the first cache, without the unpacking and scaling of real weights. Each step of a round reads another
// part of `data`, so that nothing can be computed once for all rounds.
namespace gemlet::kernels::simd {

constexpr std::size_t peak_steps = 16;

// Sums of `in_a_row` products of bytes before they are added in 32 bits.
template <typename V, int in_a_row>
std::size_t peak_bytes(const std::uint8_t* data, std::size_t rounds, float* out) {
  constexpr int R = 2;
  constexpr int T = 3;
  constexpr std::size_t size = sizeof(typename V::Bytes);
  static_assert(size * (R + T) * peak_steps <= peak_data_bytes);
  typename V::Ints sums[R][T];
  for (auto& row : sums) {
    for (auto& sum : row) sum = V::set_int(0);
  }
  for (std::size_t round = 0; round < rounds; ++round) {
    const std::uint8_t* p = data;
    for (std::size_t step = 0; step < peak_steps; step += in_a_row) {
      typename V::Products products[R][T];
      for (int i = 0; i < in_a_row; ++i, p += size * (R + T)) {
        typename V::Bytes w[R];
        for (int r = 0; r < R; ++r) w[r] = V::load_bytes(p + size * r);
        for (int t = 0; t < T; ++t) {
          const typename V::Bytes x = V::load_bytes(p + size * (R + t));
          for (int r = 0; r < R; ++r) {
            products[r][t] = i == 0 ? V::multiply(w[r], x) : V::multiply_add(products[r][t], w[r], x);
          }
        }
      }
      for (int r = 0; r < R; ++r) {
        for (int t = 0; t < T; ++t) sums[r][t] = V::add_products(sums[r][t], products[r][t]);
      }
    }
  }
  typename V::Float total = V::set(0.0F);
  for (const auto& row : sums) {
    for (const auto& sum : row) total = V::add(total, V::to_float(sum));
  }
  *out = V::sum(total);
  return rounds * peak_steps * R * T * V::products_at_once;
}

template <typename V>
std::size_t peak_floats(const std::uint8_t* data, std::size_t rounds, float* out) {
  constexpr int R = 3;
  constexpr int T = 4;
  constexpr std::size_t size = V::width * sizeof(float);
  static_assert(size * (R + T) * peak_steps <= peak_data_bytes);
  typename V::Float sums[R][T];
  for (auto& row : sums) {
    for (auto& sum : row) sum = V::set(0.0F);
  }
  for (std::size_t round = 0; round < rounds; ++round) {
    const auto* p = reinterpret_cast<const float*>(data);
    for (std::size_t step = 0; step < peak_steps; ++step, p += V::width * (R + T)) {
      typename V::Float w[R];
      for (int r = 0; r < R; ++r) w[r] = V::load(p + V::width * r);
      for (int t = 0; t < T; ++t) {
        const typename V::Float x = V::load(p + V::width * (R + t));
        for (int r = 0; r < R; ++r) sums[r][t] = V::fma(w[r], x, sums[r][t]);
      }
    }
  }
  typename V::Float total = V::set(0.0F);
  for (const auto& row : sums) {
    for (const auto& sum : row) total = V::add(total, sum);
  }
  *out = V::sum(total);
  return rounds * peak_steps * R * T * V::width;
}

}  // namespace gemlet::kernels::simd
