#pragma once

#include <cstddef>
#include <vector>

#include "format/reader.hpp"
#include "gemlet/gemlet.hpp"
#include "model/rope.hpp"
#include "model/shape.hpp"

namespace gemlet {

/// Gemma 3's text model, in the names of `Gemma3TextConfig` (transformers).
struct GemmaConfig {
  ModelShape shape;
  std::size_t head_dim = 0;             ///< of every layer
  std::size_t num_key_value_heads = 0;  ///< of every layer
  float rms_norm_eps = 0;
  float attention_scale = 0;          ///< query_pre_attn_scalar^-1/2
  float rope_theta = 0;               ///< full-attention layers
  float rope_scaling_factor = 1;      ///< full-attention layers: positions are divided by it
  float rope_local_base_freq = 0;     ///< sliding layers
  float final_logit_softcapping = 0;  ///< 0: none

  std::vector<RopeTable> rope_tables() const;  ///< as LayerShape::rope counts them
};

/// Reads the keys that llama.cpp's converter and Ollama's write (gguf-py/gguf/constants.py, MODEL_ARCH.GEMMA3), and
/// "attention.scale", which gemlet's own converter writes where query_pre_attn_scalar is not head_dim. `tokens`: of the
/// tokenizer; rows of the embedding beyond them are not used. Throws Error naming the key.
GemmaConfig read_gemma3_config(const Reader& read, std::size_t tokens);

Hyperparameters hyperparameters(const GemmaConfig& config);

}  // namespace gemlet
