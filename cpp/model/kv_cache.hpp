#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "gemlet/gemlet.hpp"
#include "kernels/kernels.hpp"
#include "model/config.hpp"
#include "tensor/arena.hpp"

namespace gemlet {

/// Keys and values of one sequence, for the layers that own them, by their index in the file: [kv_head][slot][head_dim]
/// each. A full-attention
/// layer has a slot for every position of the context; a sliding layer has a ring of window + chunk slots, so that a
/// chunk of prompt can be stored whole before its first token looks back over a whole window.
class KvCache {
 public:
  /// Throws Error(memory). `chunk` is the most positions that are stored between two calls of `advance`.
  KvCache(const Gemma3nConfig& config, CacheType type, std::size_t context, std::size_t chunk);

  std::size_t context() const { return context_; }
  CacheType type() const { return type_; }
  std::size_t length() const { return length_; }  ///< positions held

  /// Announces that positions [length(), length() + count) are about to be stored, and holds them afterwards. Storing
  /// that was prepared but never advanced over (a cancelled call) leaves the held positions intact.
  void prepare(std::size_t count) { stored_ = std::max(stored_, length_ + count); }
  void advance(std::size_t count) { length_ += count; }

  /// Forgets positions from `length` on. False, and nothing changed, where a ring has already overwritten keys that
  /// position `length` would attend to.
  bool rewind(std::size_t length);

  /// Where the key and the value of (layer, position, kv head) lie: row_bytes() each.
  struct Slot {
    std::byte* key;
    std::byte* value;
  };
  Slot slot(std::size_t layer, std::size_t position, std::size_t kv_head) const;

  /// Positions [first, last) in order, as one run or as two where the ring wraps between them.
  struct Runs {
    std::array<kernels::AttentionRun, 2> keys;
    std::array<kernels::AttentionRun, 2> values;
  };
  Runs runs(std::size_t layer, std::size_t kv_head, std::size_t first, std::size_t last) const;

  /// The first position that a copy of this cache must keep for `layer`, so that it can go on from length().
  std::size_t first_kept(std::size_t layer) const;
  bool owns(std::size_t layer) const { return layers_[layer].slots > 0; }
  std::size_t row_bytes() const { return row_bytes_; }  ///< of one key or value of one head
  std::size_t kv_heads() const { return kv_heads_; }
  std::size_t layer_count() const { return layers_.size(); }

  /// Takes over what `other`, a cache of the same model and type, holds; its length must fit this context.
  void copy_from(const KvCache& other);
  /// As if `length` positions had been stored: the restored file fills the slots.
  void assume_length(std::size_t length) { length_ = stored_ = length; }

 private:
  struct Layer {
    std::size_t slots = 0;   // 0: reads another layer's
    std::size_t window = 0;  // 0: full attention
    Buffer keys;
    Buffer values;
  };

  CacheType type_;
  std::size_t context_;
  std::size_t kv_heads_;
  std::size_t row_bytes_;
  std::size_t length_ = 0;
  std::size_t stored_ = 0;  // one past the last position ever stored: what a rewind must reckon with
  std::vector<Layer> layers_;
};

}  // namespace gemlet
