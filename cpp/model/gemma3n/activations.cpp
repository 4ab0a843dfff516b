#include "model/gemma3n/activations.hpp"

#include <algorithm>

namespace gemlet {
namespace {

std::size_t per_layer_row(const FileRows& table, const Batch::Row& row) {
  const auto id = static_cast<std::size_t>(row.token);
  return row.embedding == nullptr && id < table.rows() ? id : 0;
}

}  // namespace

Gemma3nActivations::Gemma3nActivations(const Gemma3nConfig& model, const kernels::Kernels& table, ThreadPool& pool)
    : Activations(table, pool),
      config(model),
      hidden(config.shape.hidden_size),
      batch(config.shape, config.rope_tables()),
      per_layer_embedding(static_cast<std::size_t>(pool.threads()) * config.shape.file_layers *
                          config.hidden_size_per_layer_input) {}

void Gemma3nActivations::begin(std::span<const Segment> segments) {
  batch.begin(segments, compute);
  queries.resize(tokens());

  const auto grow = [&](std::vector<float>& buffer, std::size_t width) {
    buffer.resize(std::max(buffer.size(), tokens() * width));
  };
  grow(streams, config.altup_num_inputs * hidden);
  grow(predictions, config.altup_num_inputs * hidden);
  grow(per_layer_inputs, config.shape.file_layers * config.hidden_size_per_layer_input);
  for (auto* buffer : {&normed, &projected, &residual, &laurel}) grow(*buffer, hidden);
  grow(laurel_low, config.laurel_rank);
  for (auto* buffer : {&q, &attended}) grow(*buffer, config.shape.num_attention_heads * config.head_dim);
  for (auto* buffer : {&k, &v}) grow(*buffer, config.num_key_value_heads * config.head_dim);
  for (auto* buffer : {&gate, &up, &live_gate}) grow(*buffer, config.shape.max_intermediate_size());
  live.resize(gate.size());
  live_counts.resize(std::max(live_counts.size(), tokens()));
  grow(gated_input, config.hidden_size_per_layer_input);
}

void Gemma3nActivations::fetch_per_layer_rows(const FileRows& table) const {
  for (std::size_t t = 0; t < tokens(); ++t) table.fetch(per_layer_row(table, batch[t]));
}

void Gemma3nActivations::read_per_layer_rows(const FileRows& table) {
  per_layer_rows.resize(std::max(per_layer_rows.size(), tokens() * table.row_bytes()));
  for (std::size_t t = 0; t < tokens(); ++t) {
    table.read(per_layer_row(table, batch[t]), per_layer_rows.data() + t * table.row_bytes());
  }
}

void Gemma3nActivations::keep_wanted() {
  const std::size_t before = tokens();
  const std::span<const std::size_t> source = batch.keep_wanted();
  if (source.size() == before) return;
  // Rows only move towards the front, so that copying in order never overwrites one that is still to be copied.
  for (std::size_t i = 0; i < config.altup_num_inputs; ++i) {
    for (std::size_t t = 0; t < source.size(); ++t) {
      const float* from = streams.data() + (i * before + source[t]) * hidden;
      std::copy_n(from, hidden, streams.data() + (i * source.size() + t) * hidden);
    }
  }
  queries.resize(source.size());
}

}  // namespace gemlet
