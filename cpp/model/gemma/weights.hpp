#pragma once

#include <memory>
#include <vector>

#include "format/reader.hpp"
#include "model/gemma/config.hpp"
#include "tensor/tensor.hpp"

namespace gemlet {

/// Shapes are [rows, cols]; a matrix maps cols inputs to rows outputs. The norms' scales are used as they are: GGUF
/// files hold what transformers calls 1 + weight.
struct GemmaLayerWeights {
  std::vector<float> input_layernorm;             // [hidden]
  Matrix q_proj;                                  // [heads * head_dim, hidden]
  Matrix k_proj;                                  // [kv_heads * head_dim, hidden]
  Matrix v_proj;                                  // [kv_heads * head_dim, hidden]
  Matrix o_proj;                                  // [hidden, heads * head_dim]
  std::vector<float> q_norm;                      // [head_dim]
  std::vector<float> k_norm;                      // [head_dim]
  std::vector<float> post_attention_layernorm;    // [hidden]
  std::vector<float> pre_feedforward_layernorm;   // [hidden]
  Matrix gate_proj;                               // [ffn, hidden]
  Matrix up_proj;                                 // [ffn, hidden]
  Matrix down_proj;                               // [hidden, ffn]
  std::vector<float> post_feedforward_layernorm;  // [hidden]
};

struct GemmaWeights {
  Matrix embed_tokens;      // [vocab, hidden]
  Matrix lm_head;           // [vocab, hidden]; embed_tokens itself when the file ties them
  std::vector<float> norm;  // [hidden]
  std::vector<GemmaLayerWeights> layers;
};

/// Views into the mapped file, every shape checked. Throws Error naming the tensor with the expected and actual shape.
GemmaWeights read_gemma_weights(const Reader& read, const GemmaConfig& config);

}  // namespace gemlet
