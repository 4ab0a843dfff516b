#pragma once

#include <cstddef>
#include <vector>

#include "tensor/compute.hpp"

namespace gemlet {

/// The keys and values of one or more heads, float[heads][positions][head_dim] each.
struct HeadRows {
  const float* keys;
  const float* values;
  std::size_t heads;
  std::size_t positions;
  std::size_t head_dim;
};

/// Attention without a mask: each query of `queries`, float[rows][heads][head_dim], becomes what it attends to among
/// the positions of its head, with scores divided by sqrt(head_dim). The softmax is kept up to date piece by piece, so
/// that `scratch`, which grows to what is needed, depends on neither rows nor positions.
void attend(float* queries, std::size_t rows, const HeadRows& to, std::vector<float>& scratch, Compute& compute);

}  // namespace gemlet
