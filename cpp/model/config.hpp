#pragma once

#include <cstddef>
#include <vector>

#include "format/gguf.hpp"

namespace gemlet {

/// The published models have 4; scratch for one token's coefficients is sized by this.
inline constexpr std::size_t max_altup_inputs = 16;

struct LayerConfig {
  std::size_t index = 0;  ///< in the file: what its weights, its inputs and its keys and values are found by
  std::size_t intermediate_size = 0;
  bool sliding = false;      ///< attends to the last `sliding_window` positions; otherwise to all
  bool sparse = false;       ///< Gaussian top-k on the gate
  float sparsity_scale = 0;  ///< icdf(sparsity): the cutoff is this many standard deviations above the mean
  bool owns_kv = true;
  std::size_t kv_layer = 0;  ///< index of the layer whose keys and values this one reads: itself, or the one it shares
};

/// Gemma 3n's text model, in the names of `Gemma3nTextConfig` (transformers).
struct Gemma3nConfig {
  std::size_t vocab_size = 0;
  std::size_t hidden_size = 0;
  std::size_t hidden_size_per_layer_input = 0;
  std::size_t num_attention_heads = 0;
  std::size_t num_key_value_heads = 0;
  std::size_t head_dim = 0;
  std::size_t sliding_window = 0;
  std::size_t num_kv_shared_layers = 0;
  std::size_t altup_num_inputs = 0;
  std::size_t altup_active_idx = 0;
  std::size_t laurel_rank = 0;
  std::size_t max_position_embeddings = 0;
  float rms_norm_eps = 0;
  float rope_theta = 0;            ///< full-attention layers
  float rope_local_base_freq = 0;  ///< sliding layers
  float final_logit_softcapping = 0;
  std::size_t file_layers = 0;  ///< more than layers.size() in a slice that drops some
  std::vector<LayerConfig> layers;

  std::size_t first_shared_layer() const { return layers.size() - num_kv_shared_layers; }
};

/// Reads the keys that llama.cpp's converter writes (gguf-py/gguf/constants.py, MODEL_ARCH.GEMMA3N). Sizes that GGUF
/// has no key for come from the tensors. Throws Error naming the key.
Gemma3nConfig read_gemma3n_config(const GgufFile& file);

}  // namespace gemlet
