#include "model/gemma3n/weights.hpp"

#include <algorithm>
#include <string>

#include "kernels/kernels.hpp"
#include "model/config.hpp"

namespace gemlet {
namespace {

Gemma3nLayerWeights read_layer(const Reader& read, const Gemma3nConfig& config, std::size_t index) {
  const std::string prefix = "blk." + std::to_string(index) + ".";
  const auto name = [&](const char* part) { return prefix + part + ".weight"; };
  const std::size_t hidden = config.shape.hidden_size;
  const std::size_t ffn = config.shape.layers[index].intermediate_size;
  const std::size_t ple = config.hidden_size_per_layer_input;
  const std::size_t altup = config.altup_num_inputs;
  const std::size_t q_dim = config.shape.num_attention_heads * config.head_dim;
  const std::size_t kv_dim = config.num_key_value_heads * config.head_dim;

  Gemma3nLayerWeights w;
  w.input_layernorm = read.floats(name("attn_norm"), {hidden});
  w.q_proj = read.matrix(name("attn_q"), q_dim, hidden);
  w.q_norm = read.floats(name("attn_q_norm"), {config.head_dim});
  if (config.shape.layers[index]
          .owns_kv()) {  // published files carry these in shared layers too; nothing reads them there
    w.k_proj = read.matrix(name("attn_k"), kv_dim, hidden);
    w.v_proj = read.matrix(name("attn_v"), kv_dim, hidden);
    w.k_norm = read.floats(name("attn_k_norm"), {config.head_dim});
  }
  w.o_proj = read.matrix(name("attn_output"), hidden, q_dim);
  w.post_attention_layernorm = read.floats(name("post_attention_norm"), {hidden});
  w.laurel_left = read.matrix(name("laurel_l"), config.laurel_rank, hidden);
  w.laurel_right = read.matrix(name("laurel_r"), hidden, config.laurel_rank);
  w.post_laurel_norm = read.floats(name("laurel_post_norm"), {hidden});
  w.pre_feedforward_layernorm = read.floats(name("ffn_norm"), {hidden});
  w.gate_proj = read.matrix(name("ffn_gate"), ffn, hidden);
  w.up_proj = read.matrix(name("ffn_up"), ffn, hidden);
  // Our converter can store a sparse layer's `down` transposed, so that the columns of dead units need not be read.
  if (config.is_sparse(index) && read.has(name("ffn_down_t"))) {
    w.down_proj_t = read.matrix(name("ffn_down_t"), ffn, hidden);
  } else {
    w.down_proj = read.matrix(name("ffn_down"), hidden, ffn);
  }
  w.post_feedforward_layernorm = read.floats(name("post_ffw_norm"), {hidden});
  w.router_norm = read.floats(name("altup_router_norm"), {hidden});
  w.modality_router = read.floats(name("altup_router"), {altup, hidden});
  w.prediction_coefs = read.floats(name("altup_predict_coef"), {altup * altup, altup});
  w.correction_coefs = read.floats(name("altup_correct_coef"), {altup, altup});
  w.correct_output_scale = read.floats(name("altup_correct_scale"), {hidden});
  w.per_layer_input_gate = read.matrix(name("inp_gate"), ple, hidden);
  w.per_layer_projection = read.matrix(name("proj"), hidden, ple);
  w.post_per_layer_input_norm = read.floats(name("post_norm"), {hidden});
  return w;
}

// Rows of the PLE table that mean something. llama.cpp's converter pads the table with zero rows up to the vocabulary,
// where the reference uses row 0 (transformers: `get_per_layer_inputs`); the padding is at most the 256 multimodal ids.
std::size_t per_layer_rows(const FileRows& table) {
  constexpr std::size_t max_padding = 256;
  std::vector<std::byte> stored(table.row_bytes());
  std::vector<float> row(table.cols());
  std::size_t rows = table.rows();
  while (rows > 1 && table.rows() - rows < max_padding) {
    table.read(rows - 1, stored.data());
    kernels::scalar().weights[static_cast<std::size_t>(table.type())].dequantize(stored.data(), row.data(), row.size());
    if (std::any_of(row.begin(), row.end(), [](float v) { return v != 0; })) break;
    --rows;
  }
  return rows;
}

}  // namespace

std::shared_ptr<const Gemma3nWeights> read_gemma3n_weights(const Reader& read, const Gemma3nConfig& config) {
  const std::size_t hidden = config.shape.hidden_size;
  const std::size_t per_layer = config.shape.file_layers * config.hidden_size_per_layer_input;

  const auto weights = std::make_shared<Gemma3nWeights>();
  Gemma3nWeights& w = *weights;
  w.embed_tokens = read_vocabulary_matrix(read, "token_embd.weight", config.shape);
  w.lm_head = read.has("output.weight") ? read_vocabulary_matrix(read, "output.weight", config.shape) : w.embed_tokens;

  const char* const table = "per_layer_token_embd.weight";
  const FileRows stored = read.rows(table, read.dimension(table, 2, 0, 1, max_vocabulary), per_layer);
  w.embed_tokens_per_layer = stored.first_rows(per_layer_rows(stored));

  w.per_layer_model_projection = read.matrix("per_layer_model_proj.weight", per_layer, hidden);
  w.per_layer_projection_norm = read.floats("per_layer_proj_norm.weight", {config.hidden_size_per_layer_input});
  w.altup_projections = read.stack("altup_proj.weight", config.altup_num_inputs - 1, hidden, hidden);
  w.altup_unembed_projections = read.stack("altup_unembd_proj.weight", config.altup_num_inputs - 1, hidden, hidden);
  w.norm = read.floats("output_norm.weight", {hidden});
  for (std::size_t i = 0; i < config.shape.file_layers; ++i) w.layers.push_back(read_layer(read, config, i));
  return weights;
}

}  // namespace gemlet
