#pragma once

#include <cstddef>
#include <vector>

namespace gemlet {

/// What the rest of the engine needs to know of one layer: which keys and values it stores and reads, and how wide it
/// is.
struct LayerShape {
  std::size_t file_index = 0;  ///< number in the file: what its weights, its keys and values are found by
  std::size_t kv_source = 0;   ///< file_index of the layer whose keys and values it reads: its own, or one it shares
  std::size_t kv_heads = 0;
  std::size_t head_dim = 0;
  std::size_t window = 0;  ///< positions that a token attends to, itself included; 0: all before it
  std::size_t rope = 0;    ///< which of the model's rotary tables turns its queries and keys
  std::size_t intermediate_size = 0;
  bool media_attend_both_ways = false;  ///< the tokens of a picture see each other, not only those before them

  bool owns_kv() const { return kv_source == file_index; }
  bool operator==(const LayerShape&) const = default;
};

/// What all text models have in common, in the names of transformers' configurations.
struct ModelShape {
  std::size_t vocab_size = 0;  ///< tokens that have an embedding and a logit
  std::size_t hidden_size = 0;
  std::size_t num_attention_heads = 0;
  std::size_t max_position_embeddings = 0;
  std::size_t file_layers = 0;  ///< more than layers.size() in a slice that drops some
  std::vector<LayerShape> layers;

  /// From here on layers store no keys or values, so that only tokens whose logits are wanted must pass them.
  std::size_t first_shared_layer() const {
    std::size_t first = layers.size();
    while (first > 0 && !layers[first - 1].owns_kv()) --first;
    return first;
  }
  /// Then all tokens of a picture must be computed in one pass.
  bool media_attend_both_ways() const;
  std::size_t max_intermediate_size() const;
};

}  // namespace gemlet
