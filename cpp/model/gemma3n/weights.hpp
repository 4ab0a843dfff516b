#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "format/file_rows.hpp"
#include "format/reader.hpp"
#include "model/gemma3n/config.hpp"
#include "tensor/tensor.hpp"

namespace gemlet {

/// Norm scales and AltUp's small matrices: copied out of the file as float32, whatever their type there. They are a few
/// MB in the largest model, and AltUp must stay in float32 (its errors feed every layer above).
using FloatVector = std::vector<float>;

/// Shapes are [rows, cols]; a matrix maps cols inputs to rows outputs.
struct Gemma3nLayerWeights {
  FloatVector input_layernorm;             // [hidden]
  Matrix q_proj;                           // [heads * head_dim, hidden]
  Matrix k_proj;                           // [kv_heads * head_dim, hidden]; empty in shared layers
  Matrix v_proj;                           // [kv_heads * head_dim, hidden]; empty in shared layers
  Matrix o_proj;                           // [hidden, heads * head_dim]
  FloatVector q_norm;                      // [head_dim]
  FloatVector k_norm;                      // [head_dim]; empty in shared layers
  FloatVector post_attention_layernorm;    // [hidden]
  Matrix laurel_left;                      // [rank, hidden]
  Matrix laurel_right;                     // [hidden, rank]
  FloatVector post_laurel_norm;            // [hidden]
  FloatVector pre_feedforward_layernorm;   // [hidden]
  Matrix gate_proj;                        // [ffn, hidden]
  Matrix up_proj;                          // [ffn, hidden]
  Matrix down_proj;                        // [hidden, ffn]; or empty, where
  Matrix down_proj_t;                      // [ffn, hidden]: a sparse layer's, transposed
  FloatVector post_feedforward_layernorm;  // [hidden]
  FloatVector router_norm;                 // [hidden]
  FloatVector modality_router;             // [altup, hidden]
  FloatVector prediction_coefs;            // [altup * altup, altup]
  FloatVector correction_coefs;            // [altup, altup]
  FloatVector correct_output_scale;        // [hidden]
  Matrix per_layer_input_gate;             // [ple, hidden]
  Matrix per_layer_projection;             // [hidden, ple]
  FloatVector post_per_layer_input_norm;   // [hidden]
};

struct Gemma3nWeights {
  Matrix embed_tokens;                            // [vocab, hidden]
  Matrix lm_head;                                 // [vocab, hidden]; embed_tokens itself when the file ties them
  FileRows embed_tokens_per_layer;                // [vocab of the PLE table, layers * ple]; stays on flash
  Matrix per_layer_model_projection;              // [layers * ple, hidden]
  FloatVector per_layer_projection_norm;          // [ple]
  std::vector<Matrix> altup_projections;          // altup - 1 of [hidden, hidden]
  std::vector<Matrix> altup_unembed_projections;  // altup - 1 of [hidden, hidden]
  FloatVector norm;                               // [hidden]
  std::vector<Gemma3nLayerWeights> layers;
};

/// Views into the mapped file, every shape checked. Throws Error naming the tensor with the expected and actual shape.
std::shared_ptr<const Gemma3nWeights> read_gemma3n_weights(const Reader& read, const Gemma3nConfig& config);

}  // namespace gemlet
