#include "encoders/attention.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace gemlet {
namespace {

constexpr std::size_t group = 16;   // queries that share a reading of the keys
constexpr std::size_t piece = 512;  // positions whose scores are there at a time

/// Of one thread.
struct Scratch {
  static std::size_t floats(std::size_t head_dim) { return group * (piece + 2 * head_dim); }
  Scratch(float* memory, std::size_t head_dim)
      : scores(memory), queries(scores + group * piece), sums(queries + group * head_dim) {}

  float* scores;   // [group][piece]
  float* queries;  // [group][head_dim]
  float* sums;     // [group][head_dim]: values, times the weights so far
};

void attend_group(float* queries, std::size_t count, std::size_t stride, const HeadRows& to, std::size_t head,
                  const Scratch& scratch, const kernels::Kernels& k) {
  const std::size_t dim = to.head_dim;
  for (std::size_t q = 0; q < count; ++q) std::copy_n(queries + q * stride, dim, scratch.queries + q * dim);
  k.scale(1 / std::sqrt(static_cast<float>(dim)), scratch.queries, count * dim);
  std::fill_n(scratch.sums, count * dim, 0.0F);
  std::array<float, group> max;
  std::array<float, group> sum;
  max.fill(-std::numeric_limits<float>::infinity());
  sum.fill(0);
  for (std::size_t first = 0; first < to.positions; first += piece) {
    const std::size_t positions = std::min(piece, to.positions - first);
    const std::size_t row = head * to.positions + first;
    k.cache_f32.scores({.weights = to.keys + row * dim,
                        .activations = scratch.queries,
                        .out = scratch.scores,
                        .row_bytes = dim * sizeof(float),
                        .rows = positions,
                        .cols = dim,
                        .tokens = count,
                        .out_stride = piece});
    for (std::size_t q = 0; q < count; ++q) {
      const float factor = k.softmax_piece(scratch.scores + q * piece, positions, &max[q], &sum[q]);
      if (factor != 1) k.scale(factor, scratch.sums + q * dim, dim);
    }
    k.cache_f32.accumulate({.weights = scratch.scores,
                            .stride = piece,
                            .queries = count,
                            .values = to.values + row * dim,
                            .positions = positions,
                            .head_dim = dim,
                            .acc = scratch.sums});
  }
  for (std::size_t q = 0; q < count; ++q) {
    k.scale(1 / sum[q], scratch.sums + q * dim, dim);
    std::copy_n(scratch.sums + q * dim, dim, queries + q * stride);
  }
}

}  // namespace

void attend(float* queries, std::size_t rows, const HeadRows& to, std::vector<float>& scratch, Compute& compute) {
  const std::size_t floats = Scratch::floats(to.head_dim);
  scratch.resize(std::max(scratch.size(), static_cast<std::size_t>(compute.threads()) * floats));
  const std::size_t groups = (rows + group - 1) / group;
  const std::size_t stride = to.heads * to.head_dim;
  compute.parallel_for(groups * to.heads, 1, [&](std::size_t begin, std::size_t end, int thread) {
    const Scratch own(scratch.data() + static_cast<std::size_t>(thread) * floats, to.head_dim);
    for (std::size_t job = begin; job < end; ++job) {
      const std::size_t head = job / groups;
      const std::size_t first = job % groups * group;
      attend_group(queries + first * stride + head * to.head_dim, std::min(group, rows - first), stride, to, head, own,
                   compute.kernels());
    }
  });
}

}  // namespace gemlet
