#include "model/gemma/model.hpp"

#include <algorithm>
#include <iterator>

namespace gemlet {

Gemma::Gemma(const GgufFile& file, std::size_t tokens) {
  const Reader read(file, file.get_string("general.architecture"));
  config_ = read_gemma3_config(read, tokens);
  weights_ = read_gemma_weights(read, config_);
}

std::unique_ptr<Activations> Gemma::make_activations(const kernels::Kernels& table, ThreadPool& pool) const {
  return std::make_unique<GemmaActivations>(config_, table, pool);
}

bool Gemma::adaptable(const Tensor& tensor) const {
  if (weights_.lm_head.data != weights_.embed_tokens.data && weights_.lm_head.is(tensor)) return true;
  return std::any_of(weights_.layers.begin(), weights_.layers.end(), [&](const GemmaLayerWeights& w) {
    const Matrix* const matrices[] = {&w.q_proj,    &w.k_proj,  &w.v_proj,   &w.o_proj,
                                      &w.gate_proj, &w.up_proj, &w.down_proj};
    return std::any_of(std::begin(matrices), std::end(matrices), [&](const Matrix* m) { return m->is(tensor); });
  });
}

std::size_t Gemma::step_bytes() const {
  std::size_t bytes = weights_.lm_head.bytes();
  for (const GemmaLayerWeights& w : weights_.layers) {
    for (const Matrix* matrix : {&w.q_proj, &w.k_proj, &w.v_proj, &w.o_proj, &w.gate_proj, &w.up_proj, &w.down_proj}) {
      bytes += matrix->bytes();
    }
  }
  return bytes;
}

std::unique_ptr<const Model> make_gemma3(const GgufFile& file, std::size_t tokens) {
  return std::make_unique<const Gemma>(file, tokens);
}

}  // namespace gemlet
