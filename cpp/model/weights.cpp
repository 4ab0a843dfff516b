#include "model/weights.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string>

#include "gemlet/error.hpp"
#include "kernels/kernels.hpp"

namespace gemlet {
namespace {

class Reader {
 public:
  explicit Reader(const GgufFile& file) : file_(file) {}

  bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }

  const Tensor& tensor(const std::string& name, std::initializer_list<std::size_t> shape) const {
    const Tensor* found = file_.find_tensor(name);
    if (found == nullptr) fail("tensor " + name + " is missing");
    const bool same = found->rank == static_cast<int>(shape.size()) &&
                      std::equal(shape.begin(), shape.end(), found->shape.begin(),
                                 [](std::size_t a, std::int64_t b) { return static_cast<std::int64_t>(a) == b; });
    if (!same) fail("tensor " + name + " has shape " + found->shape_string() + ", expected " + shape_string(shape));
    return *found;
  }

  Matrix matrix(const std::string& name, std::size_t rows, std::size_t cols) const {
    const Tensor& t = tensor(name, {rows, cols});
    return Matrix::packed(t.data, t.type, rows, cols);
  }

  std::vector<Matrix> stack(const std::string& name, std::size_t count, std::size_t rows, std::size_t cols) const {
    const Tensor& t = tensor(name, {count, rows, cols});
    std::vector<Matrix> matrices;
    for (std::size_t i = 0; i < count; ++i) {
      matrices.push_back(Matrix::packed(t.data + i * rows * t.row_bytes(), t.type, rows, cols));
    }
    return matrices;
  }

  FloatVector floats(const std::string& name, std::initializer_list<std::size_t> shape) const {
    const Tensor& t = tensor(name, shape);
    FloatVector values(static_cast<std::size_t>(t.elements()));
    const std::size_t cols = static_cast<std::size_t>(t.cols());
    for (std::size_t row = 0; row * cols < values.size(); ++row) {
      kernels::scalar().weights[static_cast<std::size_t>(t.type)].dequantize(t.data + row * t.row_bytes(),
                                                                             values.data() + row * cols, cols);
    }
    if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
      fail("tensor " + name + " has values that are not finite numbers");
    }
    return values;
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Error::Kind::format, file_.path().string() + ": " + what);
  }

 private:
  static std::string shape_string(std::initializer_list<std::size_t> shape) {
    std::string text = "[";
    for (const std::size_t dimension : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(dimension);
    return text + "]";
  }

  const GgufFile& file_;
};

LayerWeights read_layer(const Reader& read, const Gemma3nConfig& config, std::size_t index) {
  const std::string prefix = "blk." + std::to_string(index) + ".";
  const auto name = [&](const char* part) { return prefix + part + ".weight"; };
  const std::size_t hidden = config.hidden_size;
  const std::size_t ffn = config.layers[index].intermediate_size;
  const std::size_t ple = config.hidden_size_per_layer_input;
  const std::size_t altup = config.altup_num_inputs;
  const std::size_t q_dim = config.num_attention_heads * config.head_dim;
  const std::size_t kv_dim = config.num_key_value_heads * config.head_dim;

  LayerWeights w;
  w.input_layernorm = read.floats(name("attn_norm"), {hidden});
  w.q_proj = read.matrix(name("attn_q"), q_dim, hidden);
  w.q_norm = read.floats(name("attn_q_norm"), {config.head_dim});
  if (config.layers[index].owns_kv) {  // published files carry these in shared layers too; nothing reads them there
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
  if (config.layers[index].sparse && read.has(name("ffn_down_t"))) {
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
  constexpr std::size_t most_padding = 256;
  std::vector<std::byte> stored(table.row_bytes());
  std::vector<float> row(table.cols());
  std::size_t rows = table.rows();
  while (rows > 1 && table.rows() - rows < most_padding) {
    table.read(rows - 1, stored.data());
    kernels::scalar().weights[static_cast<std::size_t>(table.type())].dequantize(stored.data(), row.data(), row.size());
    if (std::any_of(row.begin(), row.end(), [](float v) { return v != 0; })) break;
    --rows;
  }
  return rows;
}

}  // namespace

std::shared_ptr<const Gemma3nWeights> read_gemma3n_weights(const GgufFile& file, const Gemma3nConfig& config) {
  const Reader read(file);
  const std::size_t hidden = config.hidden_size;
  const std::size_t per_layer = config.layers.size() * config.hidden_size_per_layer_input;

  const auto weights = std::make_shared<Gemma3nWeights>();
  Gemma3nWeights& w = *weights;
  w.embed_tokens = read.matrix("token_embd.weight", config.vocab_size, hidden);
  w.lm_head = file.find_tensor("output.weight") == nullptr ? w.embed_tokens
                                                           : read.matrix("output.weight", config.vocab_size, hidden);

  const Tensor* table = file.find_tensor("per_layer_token_embd.weight");
  if (table == nullptr) read.fail("tensor per_layer_token_embd.weight is missing");
  const std::size_t table_rows = table->rank == 2 ? static_cast<std::size_t>(table->shape[0]) : 0;
  const FileRows stored(file.part_of(*table).file, read.matrix("per_layer_token_embd.weight", table_rows, per_layer));
  w.embed_tokens_per_layer = stored.first_rows(per_layer_rows(stored));

  w.per_layer_model_projection = read.matrix("per_layer_model_proj.weight", per_layer, hidden);
  w.per_layer_projection_norm = read.floats("per_layer_proj_norm.weight", {config.hidden_size_per_layer_input});
  w.altup_projections = read.stack("altup_proj.weight", config.altup_num_inputs - 1, hidden, hidden);
  w.altup_unembed_projections = read.stack("altup_unembd_proj.weight", config.altup_num_inputs - 1, hidden, hidden);
  w.norm = read.floats("output_norm.weight", {hidden});
  for (std::size_t i = 0; i < config.layers.size(); ++i) w.layers.push_back(read_layer(read, config, i));
  return weights;
}

}  // namespace gemlet
