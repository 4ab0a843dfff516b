#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "format/file_rows.hpp"
#include "model/batch.hpp"
#include "model/gemma3n/config.hpp"
#include "model/model.hpp"

namespace gemlet {

/// The activations of a forward pass. T is the number of rows (tokens) at the moment, all buffers are float32 and
/// row-major.
struct Gemma3nActivations final : Activations {
  Gemma3nActivations(const Gemma3nConfig& config, const kernels::Kernels& table, ThreadPool& pool);

  /// Lays out the rows of the segments, their rotary angles and their caches' room.
  void begin(std::span<const Segment> segments);
  /// Drops the rows whose logits are not wanted: the layers from here on store no keys or values.
  void keep_wanted();
  /// Asks the system for the rows' rows of the PLE table; reads them into per_layer_rows. Rows without a token of their
  /// own and ids beyond the table (multimodal tokens) use its row 0.
  void fetch_per_layer_rows(const FileRows& table) const;
  void read_per_layer_rows(const FileRows& table);

  float* stream(std::size_t i, std::size_t t) { return streams.data() + (i * tokens() + t) * hidden; }
  float* prediction(std::size_t i, std::size_t t) { return predictions.data() + (i * tokens() + t) * hidden; }
  float* per_layer_input(std::size_t layer, std::size_t t) {  // by the layer's number in the file
    return per_layer_inputs.data() +
           (batch[t].origin * config.shape.file_layers + layer) * config.hidden_size_per_layer_input;
  }
  std::size_t tokens() const { return batch.size(); }

  const Gemma3nConfig& config;
  const std::size_t hidden;
  Batch batch;
  std::vector<Query> queries;

  std::vector<float> streams;              // [altup][T][hidden]
  std::vector<float> predictions;          // [altup][T][hidden]
  std::vector<float> per_layer_inputs;     // [T at the beginning][layers of the file][ple]
  std::vector<float> per_layer_embedding;  // [threads][layers of the file][ple]: a row of the PLE table
  std::vector<std::byte> per_layer_rows;   // [T] of those rows, as they are stored
  std::vector<float> normed;               // [T][hidden]: what the next matrices multiply
  std::vector<float> projected;            // [T][hidden]: what a matrix gave
  std::vector<float> residual;             // [T][hidden]
  std::vector<float> laurel;               // [T][hidden]
  std::vector<float> laurel_low;           // [T][rank]
  std::vector<float> q;                    // [T][heads][head_dim]
  std::vector<float> k;                    // [T][kv_heads][head_dim]
  std::vector<float> v;                    // [T][kv_heads][head_dim]
  std::vector<float> attended;             // [T][heads][head_dim]
  std::vector<float> gate;                 // [T][ffn]
  std::vector<float> up;                   // [T][ffn]
  std::vector<std::uint32_t> live;         // [T][ffn]: which gates are not zero
  std::vector<std::size_t> live_counts;    // [T]
  std::vector<float> live_gate;            // [T][ffn]: those gates
  std::vector<float> gated_input;          // [T][ple]
};

}  // namespace gemlet
