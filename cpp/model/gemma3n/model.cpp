#include "model/gemma3n/model.hpp"

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>

#include "model/slice.hpp"

namespace gemlet {

Gemma3n::Gemma3n(const GgufFile& file, std::size_t tokens) {
  const Reader read(file, file.get_string("general.architecture"));
  config_ = read_gemma3n_config(read, tokens);
  weights_ = read_gemma3n_weights(read, config_);
}

Hyperparameters Gemma3n::hyperparameters() const {
  Hyperparameters out = gemlet::hyperparameters(config_);
  out["vocab_size_per_layer_input"] = static_cast<std::int64_t>(weights_->embed_tokens_per_layer.rows());
  return out;
}

std::unique_ptr<Activations> Gemma3n::make_activations(const kernels::Kernels& table, ThreadPool& pool) const {
  return std::make_unique<Gemma3nActivations>(config_, table, pool);
}

std::shared_ptr<const Model> Gemma3n::sliced(const Slice& slice) const {
  std::vector<SliceableLayer> layers;
  for (const LayerShape& layer : config_.shape.layers) {
    const Matrix& down_proj = weights_->layers[layer.file_index].down_proj;
    const std::size_t block = down_proj.data == nullptr ? 1 : traits(down_proj.type).elements;
    layers.push_back({layer.file_index, layer.kv_source, layer.intermediate_size, block});
  }
  auto part = std::make_shared<Gemma3n>(*this);
  part->config_.shape.layers.clear();
  for (const KeptLayer& kept : apply_slice(slice, layers)) {
    LayerShape layer = config_.shape.layers[kept.place];
    layer.intermediate_size = kept.width;
    part->config_.shape.layers.push_back(layer);
  }
  return part;
}

bool Gemma3n::adaptable(const Tensor& tensor) const {
  if (weights_->lm_head.data != weights_->embed_tokens.data && weights_->lm_head.is(tensor)) return true;
  if (weights_->per_layer_model_projection.is(tensor)) return true;
  return std::any_of(config_.shape.layers.begin(), config_.shape.layers.end(), [&](const LayerShape& layer) {
    const Gemma3nLayerWeights& w = weights_->layers[layer.file_index];
    const Matrix* const matrices[] = {&w.q_proj,
                                      &w.k_proj,
                                      &w.v_proj,
                                      &w.o_proj,
                                      &w.laurel_left,
                                      &w.laurel_right,
                                      &w.gate_proj,
                                      &w.up_proj,
                                      &w.down_proj,
                                      &w.per_layer_input_gate,
                                      &w.per_layer_projection};
    return std::any_of(std::begin(matrices), std::end(matrices), [&](const Matrix* m) { return m->is(tensor); });
  });
}

std::size_t Gemma3n::step_bytes() const {
  std::size_t bytes = weights_->per_layer_model_projection.bytes() + weights_->lm_head.bytes();
  for (const LayerShape& layer : config_.shape.layers) {
    const Gemma3nLayerWeights& w = weights_->layers[layer.file_index];
    for (const Matrix* matrix : {&w.q_proj, &w.k_proj, &w.v_proj, &w.o_proj, &w.laurel_left, &w.laurel_right,
                                 &w.per_layer_input_gate, &w.per_layer_projection}) {
      bytes += matrix->bytes();
    }
    const std::size_t width = layer.intermediate_size;
    for (const Matrix* matrix : {&w.gate_proj, &w.up_proj}) bytes += matrix->first_rows(width).bytes();
    bytes += (w.down_proj.data == nullptr ? w.down_proj_t.first_rows(width) : w.down_proj.first_cols(width)).bytes();
  }
  for (const Matrix& matrix : weights_->altup_projections) bytes += matrix.bytes();
  for (const Matrix& matrix : weights_->altup_unembed_projections) bytes += matrix.bytes();
  return bytes;
}

std::optional<Tensor> Gemma3n::used_part(const Tensor& stored) const {
  constexpr std::string_view layers = "blk.";
  Tensor tensor = stored;
  if (!tensor.name.starts_with(layers)) return tensor;
  const std::string_view rest = std::string_view(stored.name).substr(layers.size());
  const std::size_t dot = std::min(rest.find('.'), rest.size());
  const std::string_view part = rest.substr(dot);
  for (const LayerShape& layer : config_.shape.layers) {
    if (rest.substr(0, dot) != std::to_string(layer.file_index)) continue;
    const auto width = static_cast<std::int64_t>(layer.intermediate_size);
    if (part == ".ffn_gate.weight" || part == ".ffn_up.weight" || part == ".ffn_down_t.weight") tensor.shape[0] = width;
    if (part == ".ffn_down.weight") tensor.shape[1] = width;
    return tensor;
  }
  return std::nullopt;
}

std::unique_ptr<const Model> make_gemma3n(const GgufFile& file, std::size_t tokens) {
  return std::make_unique<const Gemma3n>(file, tokens);
}

}  // namespace gemlet
