#include "model/config.hpp"

#include <cmath>
#include <limits>
#include <string>

#include "gemlet/error.hpp"

namespace gemlet {
namespace {

// Far above any Gemma, and low enough that no product of two of them overflows or asks for absurd memory.
constexpr std::size_t max_layers = 1024;
constexpr std::size_t max_width = 1 << 20;

[[noreturn]] void fail(const GgufFile& file, const std::string& what) {
  throw Error(Error::Kind::format, file.path().string() + ": " + what);
}

std::size_t bounded(const GgufFile& file, const std::string& name, std::size_t value, std::size_t low,
                    std::size_t high) {
  if (value < low || value > high) {
    fail(file,
         name + " is " + std::to_string(value) + ", expected " + std::to_string(low) + " to " + std::to_string(high));
  }
  return value;
}

std::size_t size_key(const GgufFile& file, const std::string& key, std::size_t low, std::size_t high) {
  return bounded(file, key, file.get_u32(key), low, high);
}

float positive(const GgufFile& file, const std::string& name, float value) {
  if (!(value > 0) || !std::isfinite(value)) {
    fail(file, name + " is " + std::to_string(value) + ", expected a positive number");
  }
  return value;
}

const Tensor& shape_source(const GgufFile& file, const std::string& name, int rank) {
  const Tensor* tensor = file.find_tensor(name);
  if (tensor == nullptr) fail(file, "tensor " + name + " is missing");
  if (tensor->rank != rank) {
    fail(file, "tensor " + name + " has shape " + tensor->shape_string() + ", expected " + std::to_string(rank) +
                   " dimensions");
  }
  return *tensor;
}

std::vector<bool> read_sliding(const GgufFile& file, std::size_t layers) {
  const std::string key = "gemma3n.attention.sliding_window_pattern";
  if (file.contains(key)) return file.get_bools(key, layers);
  // Files older than the key follow the published models: every fifth layer is global.
  std::vector<bool> sliding(layers);
  for (std::size_t i = 0; i < layers; ++i) sliding[i] = (i + 1) % 5 != 0;
  return sliding;
}

void read_sparsity(const GgufFile& file, Gemma3nConfig& config) {
  const std::string key = "gemma3n.activation_sparsity_scale";
  if (!file.contains(key)) return;
  const std::vector<float> scales = file.get_f32s(key, config.layers.size());
  for (std::size_t i = 0; i < scales.size(); ++i) {
    // The converter stores icdf(sparsity); a dense layer has sparsity 0 and so minus infinity.
    if (scales[i] == -std::numeric_limits<float>::infinity()) continue;
    if (!std::isfinite(scales[i])) fail(file, key + "[" + std::to_string(i) + "] is not a number below infinity");
    config.layers[i].sparse = true;
    config.layers[i].sparsity_scale = scales[i];
  }
}

// A shared layer reads the last layer of its own kind that owns keys and values (transformers: `kv_sharing_modes`).
void assign_kv_layers(const GgufFile& file, Gemma3nConfig& config) {
  const std::size_t first_shared = config.first_shared_layer();
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    LayerConfig& layer = config.layers[i];
    layer.index = i;
    layer.owns_kv = i < first_shared;
    layer.kv_layer = i;
    if (layer.owns_kv) continue;
    std::size_t source = first_shared;
    while (source > 0 && config.layers[source - 1].sliding != layer.sliding) --source;
    if (source == 0) {
      fail(file, "layer " + std::to_string(i) + " shares keys and values, but no earlier " +
                     (layer.sliding ? "sliding" : "full-attention") + " layer owns any");
    }
    layer.kv_layer = source - 1;
  }
}

}  // namespace

Gemma3nConfig read_gemma3n_config(const GgufFile& file) {
  const std::string_view architecture = file.get_string("general.architecture");
  if (architecture != "gemma3n") {
    throw Error(Error::Kind::unsupported, file.path().string() + ": architecture is \"" + std::string(architecture) +
                                              "\", gemlet runs \"gemma3n\"");
  }
  const std::string prefix = "gemma3n.";
  Gemma3nConfig config;
  config.hidden_size = size_key(file, prefix + "embedding_length", 1, max_width);
  config.layers.resize(size_key(file, prefix + "block_count", 1, max_layers));
  const std::size_t layers = config.file_layers = config.layers.size();
  config.hidden_size_per_layer_input = size_key(file, prefix + "embedding_length_per_layer_input", 1, max_width);
  config.num_attention_heads = size_key(file, prefix + "attention.head_count", 1, max_width);
  config.num_key_value_heads = size_key(file, prefix + "attention.head_count_kv", 1, config.num_attention_heads);
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    fail(file, "gemma3n.attention.head_count " + std::to_string(config.num_attention_heads) +
                   " is not a multiple of head_count_kv " + std::to_string(config.num_key_value_heads));
  }
  config.head_dim = size_key(file, prefix + "attention.key_length", 2, max_width);
  const std::size_t value_length =
      file.find_u32(prefix + "attention.value_length", static_cast<std::uint32_t>(config.head_dim));
  if (value_length != config.head_dim || config.head_dim % 2 != 0) {
    fail(file, "attention key_length " + std::to_string(config.head_dim) + " and value_length " +
                   std::to_string(value_length) + " must be the same even number");
  }
  bounded(file, "head_count * key_length", config.num_attention_heads * config.head_dim, 1, max_width);
  config.sliding_window = size_key(file, prefix + "attention.sliding_window", 1, max_width);
  config.num_kv_shared_layers = size_key(file, prefix + "attention.shared_kv_layers", 0, layers - 1);
  config.altup_num_inputs = size_key(file, prefix + "altup.num_inputs", 2, max_altup_inputs);
  config.altup_active_idx = size_key(file, prefix + "altup.active_idx", 0, config.altup_num_inputs - 1);
  config.max_position_embeddings = size_key(file, prefix + "context_length", 1, std::size_t{1} << 24);
  config.rms_norm_eps = positive(file, "gemma3n.attention.layer_norm_rms_epsilon",
                                 file.get_f32(prefix + "attention.layer_norm_rms_epsilon"));
  config.rope_theta = positive(file, "gemma3n.rope.freq_base", file.find_f32(prefix + "rope.freq_base", 1e6F));
  config.rope_local_base_freq =
      positive(file, "gemma3n.rope.freq_base_swa", file.find_f32(prefix + "rope.freq_base_swa", 1e4F));
  config.final_logit_softcapping =
      positive(file, "gemma3n.final_logit_softcapping", file.find_f32(prefix + "final_logit_softcapping", 30.0F));

  const std::vector<std::uint32_t> widths = file.get_u32s(prefix + "feed_forward_length", layers);
  const std::vector<bool> sliding = read_sliding(file, layers);
  for (std::size_t i = 0; i < layers; ++i) {
    config.layers[i].intermediate_size = bounded(file, "gemma3n.feed_forward_length", widths[i], 1, max_width);
    config.layers[i].sliding = sliding[i];
  }
  read_sparsity(file, config);
  assign_kv_layers(file, config);

  config.vocab_size =
      bounded(file, "rows of token_embd.weight",
              static_cast<std::size_t>(shape_source(file, "token_embd.weight", 2).shape[0]), 1, std::size_t{1} << 24);
  config.laurel_rank =
      bounded(file, "rows of blk.0.laurel_l.weight",
              static_cast<std::size_t>(shape_source(file, "blk.0.laurel_l.weight", 2).shape[0]), 1, max_width);
  return config;
}

}  // namespace gemlet
