#include "model/gemma/weights.hpp"

#include <string>

#include "model/config.hpp"

namespace gemlet {
namespace {

Matrix rows_of(const Matrix& matrix, std::size_t begin, std::size_t count) {
  return {matrix.row(begin), matrix.type, count, matrix.cols, matrix.row_bytes};
}

GemmaLayerWeights read_layer(const Reader& read, const GemmaConfig& config, const LayerShape& layer) {
  const std::string prefix = "blk." + std::to_string(layer.file_index) + ".";
  const auto name = [&](const char* part) { return prefix + part + ".weight"; };
  const std::size_t hidden = config.shape.hidden_size;
  const std::size_t ffn = layer.intermediate_size;
  const std::size_t q_dim = config.shape.num_attention_heads * layer.head_dim;
  const std::size_t kv_dim = layer.kv_heads * layer.head_dim;

  GemmaLayerWeights w;
  w.input_layernorm = read.floats(name("attn_norm"), {hidden});
  if (read.has(name("attn_qkv"))) {  // as newer converters can write it
    const Matrix fused = read.matrix(name("attn_qkv"), q_dim + 2 * kv_dim, hidden);
    w.q_proj = rows_of(fused, 0, q_dim);
    w.k_proj = rows_of(fused, q_dim, kv_dim);
    w.v_proj = rows_of(fused, q_dim + kv_dim, kv_dim);
  } else {
    w.q_proj = read.matrix(name("attn_q"), q_dim, hidden);
    w.k_proj = read.matrix(name("attn_k"), kv_dim, hidden);
    w.v_proj = read.matrix(name("attn_v"), kv_dim, hidden);
  }
  w.o_proj = read.matrix(name("attn_output"), hidden, q_dim);
  w.q_norm = read.floats(name("attn_q_norm"), {layer.head_dim});
  w.k_norm = read.floats(name("attn_k_norm"), {layer.head_dim});
  w.post_attention_layernorm = read.floats(name("post_attention_norm"), {hidden});
  w.pre_feedforward_layernorm = read.floats(name("ffn_norm"), {hidden});
  w.gate_proj = read.matrix(name("ffn_gate"), ffn, hidden);
  w.up_proj = read.matrix(name("ffn_up"), ffn, hidden);
  w.down_proj = read.matrix(name("ffn_down"), hidden, ffn);
  w.post_feedforward_layernorm = read.floats(name("post_ffw_norm"), {hidden});
  return w;
}

}  // namespace

GemmaWeights read_gemma_weights(const Reader& read, const GemmaConfig& config) {
  GemmaWeights w;
  w.embed_tokens = read_vocabulary_matrix(read, "token_embd.weight", config.shape);
  w.lm_head = read.has("output.weight") ? read_vocabulary_matrix(read, "output.weight", config.shape) : w.embed_tokens;
  w.norm = read.floats("output_norm.weight", {config.shape.hidden_size});
  for (const LayerShape& layer : config.shape.layers) w.layers.push_back(read_layer(read, config, layer));
  return w;
}

}  // namespace gemlet
