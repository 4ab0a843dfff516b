#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "model/batch.hpp"
#include "model/gemma/config.hpp"
#include "model/model.hpp"

namespace gemlet {

/// The activations of a forward pass. T is the number of rows (tokens) at the moment, all buffers are float32 and
/// row-major.
struct GemmaActivations final : Activations {
  GemmaActivations(const GemmaConfig& config, const kernels::Kernels& table, ThreadPool& pool);

  /// Lays out the rows of the segments, their rotary angles and their caches' room.
  void begin(std::span<const Segment> segments);
  /// Drops the rows whose logits are not wanted.
  void keep_wanted();

  std::size_t tokens() const { return batch.size(); }

  const GemmaConfig& config;
  const std::size_t hidden;
  Batch batch;
  std::vector<Query> queries;

  std::vector<float> residual;   // [T][hidden]: the stream that every layer adds to
  std::vector<float> normed;     // [T][hidden]: what the next matrices multiply
  std::vector<float> projected;  // [T][hidden]: what a matrix gave
  std::vector<float> q;          // [T][heads][head_dim]
  std::vector<float> k;          // [T][kv_heads][head_dim]
  std::vector<float> v;          // [T][kv_heads][head_dim]
  std::vector<float> attended;   // [T][heads][head_dim]
  std::vector<float> gate;       // [T][ffn]
  std::vector<float> up;         // [T][ffn]
};

}  // namespace gemlet
