#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "gemlet/gemlet.hpp"
#include "model/adapter.hpp"
#include "model/attention.hpp"
#include "model/cache.hpp"
#include "model/kv_cache.hpp"
#include "model/rope.hpp"
#include "model/shape.hpp"

namespace gemlet {

/// Consecutive tokens of one sequence, to be computed at the end of what its cache holds. A prefill is one segment of
/// many tokens; a batch of sequences is many segments of one.
struct Segment {
  std::span<const Token> tokens;
  Cache* cache = nullptr;
  enum class Want { none, last, all } want = Want::last;  ///< the tokens whose logits are computed
  std::span<const Media> media{};                         ///< of the whole timeline, in order
  const Adapter* adapter = nullptr;
};

/// The rows (tokens) of a forward pass: where each stands, what it attends to, and whether its logits are wanted. For
/// models whose caches are KvCaches.
class Batch {
 public:
  struct Row {
    Token token;
    const float* embedding;  ///< [hidden] that stands in for the token's own; null for a token
    std::size_t position;
    std::size_t block_end;  ///< one past the last position of the picture that the row is a part of; 0: none
    KvCache* cache;
    const Adapter* adapter;
    bool wanted;
    std::size_t origin;  ///< the row's index when the pass began: what is laid out once stays where it is
  };

  Batch(const ModelShape& shape, std::vector<RopeTable> tables) : shape_(shape), angles_(std::move(tables)) {}

  /// Lays out the rows of the segments, their rotary angles and their caches' room.
  void begin(std::span<const Segment> segments, Compute& compute);

  /// Drops the rows whose logits are not wanted. Returns, for each row that is left, the index that it had.
  std::span<const std::size_t> keep_wanted();

  std::size_t size() const { return rows_.size(); }
  bool has_adapters() const;
  bool has_unwanted() const;
  const Row& operator[](std::size_t t) const { return rows_[t]; }

  /// What row t attends to in this layer.
  Query query(const LayerShape& layer, std::size_t t) const;
  const float* cos(const LayerShape& layer, std::size_t t) const { return angles_.cos(layer.rope, rows_[t].origin); }
  const float* sin(const LayerShape& layer, std::size_t t) const { return angles_.sin(layer.rope, rows_[t].origin); }

 private:
  const ModelShape& shape_;
  RopeAngles angles_;
  std::vector<Row> rows_;
  std::vector<std::size_t> kept_;
};

}  // namespace gemlet
