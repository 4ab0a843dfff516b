#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "format/file_rows.hpp"
#include "gemlet/gemlet.hpp"
#include "model/compute.hpp"
#include "model/config.hpp"
#include "model/kv_cache.hpp"

namespace gemlet {

/// Consecutive tokens of one sequence, to be computed at the end of what its cache holds. A prefill is one segment of
/// many tokens; a batch of sequences is many segments of one.
struct Segment {
  std::span<const Token> tokens;
  KvCache* cache = nullptr;
  enum class Want { none, last, all } want = Want::last;  ///< the tokens whose logits are computed
};

/// The activations of a forward pass and the rows (tokens) it is about; grows to the largest call it has seen. Used by
/// one thread at a time. T is the number of rows at the moment, all buffers are float32 and row-major.
struct State {
  State(const Gemma3nConfig& config, const kernels::Kernels& table, ThreadPool& pool);

  /// Lays out the rows of the segments, their rope angles and their caches' room.
  void begin(std::span<const Segment> segments);
  /// Drops the rows whose logits nobody wants: the layers from here on store no keys or values.
  void keep_wanted();
  /// Asks the system for the rows' rows of the PLE table; reads them into per_layer_rows. Ids beyond the table
  /// (multimodal tokens) use its row 0.
  void fetch_per_layer_rows(const FileRows& table) const;
  void read_per_layer_rows(const FileRows& table);

  float* stream(std::size_t i, std::size_t t) { return streams.data() + (i * tokens() + t) * config.hidden_size; }
  float* prediction(std::size_t i, std::size_t t) {
    return predictions.data() + (i * tokens() + t) * config.hidden_size;
  }
  float* per_layer_input(std::size_t layer, std::size_t t) {  // by the layer's index in the file
    return per_layer_inputs.data() + (rows[t].origin * config.file_layers + layer) * config.hidden_size_per_layer_input;
  }
  const float* cos(bool sliding, std::size_t t) const { return angle(sliding, 0, t); }
  const float* sin(bool sliding, std::size_t t) const { return angle(sliding, 1, t); }
  std::size_t tokens() const { return rows.size(); }

  struct Row {
    Token token;
    std::size_t position;
    const KvCache* cache;
    bool wanted;
    std::size_t origin;  // the row's index when the pass began: what is laid out once stays where it is
  };

  const Gemma3nConfig& config;
  Compute compute;
  std::vector<Row> rows;
  std::vector<Compute::Query> queries;

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

 private:
  const float* angle(bool sliding, std::size_t part, std::size_t t) const {
    return angles.data() + ((rows[t].origin * 2 + (sliding ? 1 : 0)) * 2 + part) * (config.head_dim / 2);
  }
  void fill_angles();

  std::vector<float> inverse_frequencies[2];  // full, sliding: [head_dim / 2]
  std::vector<float> angles;                  // [T at the beginning][full, sliding][cos, sin][head_dim / 2]
};

}  // namespace gemlet
