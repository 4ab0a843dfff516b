#pragma once

#include <cstddef>
#include <vector>

#include "format/reader.hpp"
#include "gemlet/gemlet.hpp"
#include "model/rope.hpp"
#include "model/shape.hpp"

namespace gemlet {

/// The published models have 4; scratch for one token's coefficients is sized by this.
inline constexpr std::size_t max_altup_inputs = 16;

/// Gemma 3n's text model, in the names of `Gemma3nTextConfig` (transformers).
struct Gemma3nConfig {
  ModelShape shape;
  std::size_t hidden_size_per_layer_input = 0;
  std::size_t head_dim = 0;             ///< of every layer
  std::size_t num_key_value_heads = 0;  ///< of every layer
  std::size_t altup_num_inputs = 0;
  std::size_t altup_active_idx = 0;
  std::size_t laurel_rank = 0;
  float rms_norm_eps = 0;
  float rope_theta = 0;            ///< full-attention layers
  float rope_local_base_freq = 0;  ///< sliding layers
  float final_logit_softcapping = 0;
  /// For each layer of the file, icdf(sparsity): gate values so many standard deviations above their mean survive
  /// (Gaussian top-k). Minus infinity: a dense layer.
  std::vector<float> activation_sparsity_scale;

  bool is_sparse(std::size_t file_index) const;
  std::vector<RopeTable> rope_tables() const;  ///< as LayerShape::rope counts them
};

/// Reads the keys that llama.cpp's converter writes (gguf-py/gguf/constants.py, MODEL_ARCH.GEMMA3N). Sizes that GGUF
/// has no key for come from the tensors. `tokens`: of the tokenizer; rows of the embedding beyond them are not used.
/// Throws Error naming the key.
Gemma3nConfig read_gemma3n_config(const Reader& read, std::size_t tokens);

Hyperparameters hyperparameters(const Gemma3nConfig& config);

}  // namespace gemlet
