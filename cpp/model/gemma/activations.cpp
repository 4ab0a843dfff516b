#include "model/gemma/activations.hpp"

#include <algorithm>

namespace gemlet {

GemmaActivations::GemmaActivations(const GemmaConfig& model, const kernels::Kernels& table, ThreadPool& pool)
    : Activations(table, pool),
      config(model),
      hidden(config.shape.hidden_size),
      batch(config.shape, config.rope_tables()) {}

void GemmaActivations::begin(std::span<const Segment> segments) {
  batch.begin(segments, compute);
  queries.resize(tokens());
  const auto grow = [&](std::vector<float>& buffer, std::size_t width) {
    buffer.resize(std::max(buffer.size(), tokens() * width));
  };
  for (auto* buffer : {&residual, &normed, &projected}) grow(*buffer, hidden);
  for (auto* buffer : {&q, &attended}) grow(*buffer, config.shape.num_attention_heads * config.head_dim);
  for (auto* buffer : {&k, &v}) grow(*buffer, config.num_key_value_heads * config.head_dim);
  for (auto* buffer : {&gate, &up}) grow(*buffer, config.shape.max_intermediate_size());
}

void GemmaActivations::keep_wanted() {
  const std::size_t before = tokens();
  const std::span<const std::size_t> source = batch.keep_wanted();
  if (source.size() == before) return;
  // Rows only move towards the front, so that copying in order never overwrites one that is still to be copied.
  for (std::size_t t = 0; t < source.size(); ++t) {
    for (auto* buffer : {&residual, &normed}) {
      std::copy_n(buffer->data() + source[t] * hidden, hidden, buffer->data() + t * hidden);
    }
  }
  queries.resize(source.size());
}

}  // namespace gemlet
