#include "model/gemma3n/config.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "model/config.hpp"

namespace gemlet {
namespace {

constexpr float dense = -std::numeric_limits<float>::infinity();
enum Rope : std::size_t { full, sliding };

// The converter stores icdf(sparsity); a dense layer has sparsity 0 and so minus infinity.
std::vector<float> read_sparsity(const Reader& read, std::size_t layers) {
  const char* const key = "activation_sparsity_scale";
  if (!read.has_key(key)) return std::vector<float>(layers, dense);
  std::vector<float> scales = read.numbers(key, layers);
  for (std::size_t i = 0; i < layers; ++i) {
    if (scales[i] != dense && !std::isfinite(scales[i])) {
      read.fail(std::string(key) + "[" + std::to_string(i) + "] is not a number below infinity");
    }
  }
  return scales;
}

// A shared layer reads the last layer of its own kind that owns keys and values (transformers: `kv_sharing_modes`).
void share_kv(const Reader& read, std::size_t first_shared, std::vector<LayerShape>& layers) {
  for (std::size_t i = first_shared; i < layers.size(); ++i) {
    std::size_t source = first_shared;
    while (source > 0 && layers[source - 1].window != layers[i].window) --source;
    if (source == 0) {
      read.fail("layer " + std::to_string(i) + " shares keys and values, but no earlier " +
                (layers[i].window > 0 ? "sliding" : "full-attention") + " layer owns any");
    }
    layers[i].kv_source = source - 1;
  }
}

}  // namespace

bool Gemma3nConfig::is_sparse(std::size_t file_index) const { return activation_sparsity_scale[file_index] != dense; }

std::vector<RopeTable> Gemma3nConfig::rope_tables() const {
  return {RopeTable::make(rope_theta, head_dim), RopeTable::make(rope_local_base_freq, head_dim)};
}

Gemma3nConfig read_gemma3n_config(const Reader& read, std::size_t tokens) {
  Gemma3nConfig config;
  ModelShape& shape = config.shape;
  shape.hidden_size = read.size("embedding_length", 1, max_width);
  const std::size_t layers = shape.file_layers = read.size("block_count", 1, max_layers);
  config.hidden_size_per_layer_input = read.size("embedding_length_per_layer_input", 1, max_width);
  const AttentionHeads heads = read_attention_heads(read, shape.hidden_size);
  shape.num_attention_heads = heads.heads;
  config.num_key_value_heads = heads.kv_heads;
  config.head_dim = heads.head_dim;
  const std::size_t window = read.size("attention.sliding_window", 1, max_width);
  const std::size_t shared = read.size("attention.shared_kv_layers", 0, layers - 1);
  config.altup_num_inputs = read.size("altup.num_inputs", 2, max_altup_inputs);
  config.altup_active_idx = read.size("altup.active_idx", 0, config.altup_num_inputs - 1);
  shape.max_position_embeddings = read.size("context_length", 1, max_context);
  config.rms_norm_eps = read.positive("attention.layer_norm_rms_epsilon");
  config.rope_theta = read.positive("rope.freq_base", 1e6F);
  config.rope_local_base_freq = read.positive("rope.freq_base_swa", 1e4F);
  config.final_logit_softcapping = read.positive("final_logit_softcapping", 30.0F);

  const std::vector<std::size_t> widths = read.sizes("feed_forward_length", layers, 1, max_width);
  const std::vector<bool> local = read.sliding_layers(layers, 5);  // the published models: every fifth is global
  for (std::size_t i = 0; i < layers; ++i) {
    shape.layers.push_back({.file_index = i,
                            .kv_source = i,
                            .kv_heads = config.num_key_value_heads,
                            .head_dim = config.head_dim,
                            .window = local[i] ? window : 0,
                            .rope = local[i] ? sliding : full,
                            .intermediate_size = widths[i]});
  }
  share_kv(read, layers - shared, shape.layers);
  config.activation_sparsity_scale = read_sparsity(read, layers);
  shape.vocab_size = read_vocab_size(read, tokens);
  config.laurel_rank = read.dimension("blk.0.laurel_l.weight", 2, 0, 1, max_width);
  return config;
}

Hyperparameters hyperparameters(const Gemma3nConfig& config) {
  Hyperparameters out = hyperparameters(config.shape);
  const auto integer = [](std::size_t n) { return static_cast<std::int64_t>(n); };
  std::int64_t shared = 0;
  std::vector<double> sparsity;
  for (const LayerShape& layer : config.shape.layers) {
    shared += layer.owns_kv() ? 0 : 1;
    sparsity.push_back(double{config.activation_sparsity_scale[layer.file_index]});
  }
  out["hidden_size_per_layer_input"] = integer(config.hidden_size_per_layer_input);
  out["num_kv_shared_layers"] = shared;
  out["altup_num_inputs"] = integer(config.altup_num_inputs);
  out["altup_active_idx"] = integer(config.altup_active_idx);
  out["laurel_rank"] = integer(config.laurel_rank);
  out["rms_norm_eps"] = double{config.rms_norm_eps};
  out["rope_theta"] = double{config.rope_theta};
  out["rope_local_base_freq"] = double{config.rope_local_base_freq};
  out["final_logit_softcapping"] = double{config.final_logit_softcapping};
  out["activation_sparsity_scale"] = std::move(sparsity);
  return out;
}

}  // namespace gemlet
