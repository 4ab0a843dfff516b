#include "model/gemma/config.hpp"

#include <cmath>
#include <string>

#include "model/config.hpp"

namespace gemlet {
namespace {

enum Rope : std::size_t { full, sliding };

// transformers: `rope_scaling {rope_type linear, factor 8}` in 4B, 12B and 27B. Ollama's files of these do not say so;
// what they have in common is the context of 131072.
float read_rope_scaling(const Reader& read, std::size_t context) {
  constexpr std::size_t long_context = 131072;
  const std::string_view type = read.string("rope.scaling.type", read.has_key("rope.scaling.factor") ? "linear" : "");
  if (type.empty()) return context >= long_context ? 8.0F : 1.0F;
  if (type == "none") return 1.0F;
  if (type != "linear") {
    throw Error(Error::Kind::unsupported,
                read.file().path().string() + ": rope.scaling.type is " + quote(type) + ", expected \"linear\"");
  }
  return read.positive("rope.scaling.factor");
}

// GGUF has no key for query_pre_attn_scalar. It is head_dim in all published models but the one of 62 layers (27B),
// where it is hidden_size / heads.
float read_attention_scale(const Reader& read, const GemmaConfig& config) {
  constexpr std::size_t layers_of_27b = 62;
  const std::size_t scalar = config.shape.file_layers == layers_of_27b
                                 ? config.shape.hidden_size / config.shape.num_attention_heads
                                 : config.head_dim;
  return read.positive("attention.scale", 1.0F / std::sqrt(static_cast<float>(scalar)));
}

}  // namespace

std::vector<RopeTable> GemmaConfig::rope_tables() const {
  return {RopeTable::make(rope_theta, head_dim, rope_scaling_factor), RopeTable::make(rope_local_base_freq, head_dim)};
}

GemmaConfig read_gemma3_config(const Reader& read, std::size_t tokens) {
  GemmaConfig config;
  ModelShape& shape = config.shape;
  shape.hidden_size = read.size("embedding_length", 1, max_width);
  const std::size_t layers = shape.file_layers = read.size("block_count", 1, max_layers);
  const AttentionHeads heads = read_attention_heads(read, shape.hidden_size);
  shape.num_attention_heads = heads.heads;
  config.num_key_value_heads = heads.kv_heads;
  config.head_dim = heads.head_dim;
  const std::size_t window = read.size("attention.sliding_window", 1, max_width);
  shape.max_position_embeddings = read.size("context_length", 1, max_context);
  config.rms_norm_eps = read.positive("attention.layer_norm_rms_epsilon", 1e-6F);
  config.rope_theta = read.positive("rope.freq_base", 1e6F);
  config.rope_local_base_freq = read.positive("rope.freq_base_swa", 1e4F);
  config.rope_scaling_factor = read_rope_scaling(read, shape.max_position_embeddings);
  config.attention_scale = read_attention_scale(read, config);
  config.final_logit_softcapping = read.optional_positive("final_logit_softcapping").value_or(0.0F);

  const std::vector<std::size_t> widths = read.sizes("feed_forward_length", layers, 1, max_width);
  const std::vector<bool> local = read.sliding_layers(layers, 6);  // the published models: every sixth is global
  for (std::size_t i = 0; i < layers; ++i) {
    shape.layers.push_back({.file_index = i,
                            .kv_source = i,
                            .kv_heads = config.num_key_value_heads,
                            .head_dim = config.head_dim,
                            .window = local[i] ? window : 0,
                            .rope = local[i] ? sliding : full,
                            .intermediate_size = widths[i],
                            .media_attend_both_ways = true});
  }
  shape.vocab_size = read_vocab_size(read, tokens);
  return config;
}

Hyperparameters hyperparameters(const GemmaConfig& config) {
  Hyperparameters out = hyperparameters(config.shape);
  out["rms_norm_eps"] = double{config.rms_norm_eps};
  out["attention_scale"] = double{config.attention_scale};
  out["rope_theta"] = double{config.rope_theta};
  out["rope_scaling_factor"] = double{config.rope_scaling_factor};
  out["rope_local_base_freq"] = double{config.rope_local_base_freq};
  out["final_logit_softcapping"] = double{config.final_logit_softcapping};
  return out;
}

}  // namespace gemlet
