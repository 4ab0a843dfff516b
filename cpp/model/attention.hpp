#pragma once

#include <cstddef>
#include <span>

#include "model/kv_cache.hpp"
#include "tensor/compute.hpp"

namespace gemlet {

/// One query position of one sequence: it attends to positions [first, last) of `cache`, at least one.
struct Query {
  const KvCache* cache;
  std::size_t first;
  std::size_t last;
};

struct AttentionArgs {
  std::size_t layer;   ///< of the caches
  std::size_t heads;   ///< of the queries; a multiple of the layer's KV heads, which each serve as many
  float scale = 1;     ///< of the scores, q . k
  float soft_cap = 0;  ///< scores become cap * tanh(score / cap) before the softmax; 0: they stay
};

/// out = softmax(scores) . values for each query. q and out: float[queries][heads][head_dim]. Queries of the same cache
/// that stand beside each other, in order, share their reading of it.
void attention(Compute& compute, const AttentionArgs& args, std::span<const Query> queries, const float* q, float* out);

}  // namespace gemlet
