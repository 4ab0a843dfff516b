#include "model/config.hpp"

#include <algorithm>
#include <string>

namespace gemlet {

AttentionHeads read_attention_heads(const Reader& read, std::size_t hidden_size) {
  AttentionHeads found{};
  found.heads = read.size("attention.head_count", 1, max_width);
  found.kv_heads = read.size("attention.head_count_kv", 1, found.heads);
  if (found.heads % found.kv_heads != 0) {
    read.fail("attention.head_count " + std::to_string(found.heads) + " is not a multiple of head_count_kv " +
              std::to_string(found.kv_heads));
  }
  const std::size_t split = std::clamp<std::size_t>(hidden_size / found.heads, 2, max_width);
  found.head_dim = read.size("attention.key_length", 2, max_width, split);
  const std::size_t value_length = read.size("attention.value_length", 1, max_width, found.head_dim);
  if (value_length != found.head_dim || found.head_dim % 2 != 0) {
    read.fail("attention key_length " + std::to_string(found.head_dim) + " and value_length " +
              std::to_string(value_length) + " must be the same even number");
  }
  read.bounded("head_count * key_length", found.heads * found.head_dim, 1, max_width);
  return found;
}

std::size_t read_vocab_size(const Reader& read, std::size_t tokens) {
  return std::min(tokens, read.dimension("token_embd.weight", 2, 0, 1, max_vocabulary));
}

Matrix read_vocabulary_matrix(const Reader& read, const std::string& name, const ModelShape& shape) {
  const std::size_t rows = read.dimension(name, 2, 0, shape.vocab_size, max_vocabulary);
  return read.matrix(name, rows, shape.hidden_size).first_rows(shape.vocab_size);
}

Hyperparameters hyperparameters(const ModelShape& shape) {
  const auto integer = [](std::size_t n) { return static_cast<std::int64_t>(n); };
  std::vector<std::int64_t> widths;
  std::vector<std::string> types;
  std::size_t window = 0;
  for (const LayerShape& layer : shape.layers) {
    widths.push_back(integer(layer.intermediate_size));
    types.emplace_back(layer.window > 0 ? "sliding_attention" : "full_attention");
    window = std::max(window, layer.window);
  }
  Hyperparameters out;
  out["vocab_size"] = integer(shape.vocab_size);
  out["hidden_size"] = integer(shape.hidden_size);
  out["num_hidden_layers"] = integer(shape.layers.size());
  out["num_attention_heads"] = integer(shape.num_attention_heads);
  out["max_position_embeddings"] = integer(shape.max_position_embeddings);
  out["sliding_window"] = integer(window);
  out["intermediate_size"] = std::move(widths);
  out["layer_types"] = std::move(types);
  // One number where all layers agree, as a rule; a list where they do not.
  const auto by_layer = [&](const char* name, std::size_t LayerShape::* field) {
    std::vector<std::int64_t> values;
    for (const LayerShape& layer : shape.layers) values.push_back(integer(layer.*field));
    const bool same = std::all_of(values.begin(), values.end(), [&](std::int64_t v) { return v == values.front(); });
    if (same) {
      out[name] = values.front();
    } else {
      out[name] = std::move(values);
    }
  };
  by_layer("num_key_value_heads", &LayerShape::kv_heads);
  by_layer("head_dim", &LayerShape::head_dim);
  return out;
}

}  // namespace gemlet
