#include "model/state.hpp"

#include <algorithm>
#include <cmath>

namespace gemlet {
namespace {

std::size_t per_layer_row(const FileRows& table, Token token) {
  const auto id = static_cast<std::size_t>(token);
  return id < table.rows() ? id : 0;
}

}  // namespace

State::State(const Gemma3nConfig& model, const kernels::Kernels& table, ThreadPool& pool)
    : config(model),
      compute(table, pool),
      per_layer_embedding(static_cast<std::size_t>(pool.threads()) * config.file_layers *
                          config.hidden_size_per_layer_input) {
  const float bases[2] = {config.rope_theta, config.rope_local_base_freq};
  for (int kind = 0; kind < 2; ++kind) {
    for (std::size_t i = 0; i < config.head_dim / 2; ++i) {
      const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
      inverse_frequencies[kind].push_back(1.0F / std::pow(bases[kind], exponent));
    }
  }
}

void State::begin(std::span<const Segment> segments) {
  rows.clear();
  for (const Segment& segment : segments) {
    for (std::size_t i = 0; i < segment.tokens.size(); ++i) {
      const bool last = i + 1 == segment.tokens.size();
      const bool wanted = segment.want == Segment::Want::all || (last && segment.want == Segment::Want::last);
      rows.push_back({segment.tokens[i], segment.cache->length() + i, segment.cache, wanted, rows.size()});
    }
    segment.cache->prepare(segment.tokens.size());
  }
  queries.resize(rows.size());

  const auto grow = [&](std::vector<float>& buffer, std::size_t width) {
    buffer.resize(std::max(buffer.size(), tokens() * width));
  };
  std::size_t widest = 0;
  for (const LayerConfig& layer : config.layers) widest = std::max(widest, layer.intermediate_size);
  grow(streams, config.altup_num_inputs * config.hidden_size);
  grow(predictions, config.altup_num_inputs * config.hidden_size);
  grow(per_layer_inputs, config.file_layers * config.hidden_size_per_layer_input);
  for (auto* buffer : {&normed, &projected, &residual, &laurel}) grow(*buffer, config.hidden_size);
  grow(laurel_low, config.laurel_rank);
  for (auto* buffer : {&q, &attended}) grow(*buffer, config.num_attention_heads * config.head_dim);
  for (auto* buffer : {&k, &v}) grow(*buffer, config.num_key_value_heads * config.head_dim);
  for (auto* buffer : {&gate, &up, &live_gate}) grow(*buffer, widest);
  live.resize(gate.size());
  live_counts.resize(std::max(live_counts.size(), tokens()));
  grow(gated_input, config.hidden_size_per_layer_input);
  grow(angles, 2 * config.head_dim);
  fill_angles();
}

void State::fetch_per_layer_rows(const FileRows& table) const {
  for (const Row& row : rows) table.fetch(per_layer_row(table, row.token));
}

void State::read_per_layer_rows(const FileRows& table) {
  per_layer_rows.resize(std::max(per_layer_rows.size(), tokens() * table.row_bytes()));
  for (std::size_t t = 0; t < tokens(); ++t) {
    table.read(per_layer_row(table, rows[t].token), per_layer_rows.data() + t * table.row_bytes());
  }
}

// In float32 up to the angle, as the reference computes it; its cosine and sine are then exact to rounding.
void State::fill_angles() {
  const std::size_t half = config.head_dim / 2;
  compute.each_token(tokens(), [&](std::size_t t) {
    const auto position = static_cast<float>(rows[t].position);
    for (std::size_t kind = 0; kind < 2; ++kind) {
      float* cosines = angles.data() + (t * 2 + kind) * 2 * half;
      for (std::size_t i = 0; i < half; ++i) {
        const double theta = static_cast<double>(position * inverse_frequencies[kind][i]);
        cosines[i] = static_cast<float>(std::cos(theta));
        cosines[half + i] = static_cast<float>(std::sin(theta));
      }
    }
  });
}

void State::keep_wanted() {
  const std::size_t before = tokens();
  std::size_t kept = 0;
  std::vector<std::size_t> source;
  for (std::size_t t = 0; t < before; ++t) {
    if (!rows[t].wanted) continue;
    source.push_back(t);
    rows[kept++] = rows[t];
  }
  if (kept == before) return;
  // Rows only move towards the front, so that copying in order never overwrites one that is still to be copied.
  for (std::size_t i = 0; i < config.altup_num_inputs; ++i) {
    for (std::size_t t = 0; t < kept; ++t) {
      const float* from = streams.data() + (i * before + source[t]) * config.hidden_size;
      std::copy_n(from, config.hidden_size, streams.data() + (i * kept + t) * config.hidden_size);
    }
  }
  rows.resize(kept);
  queries.resize(kept);
}

}  // namespace gemlet
