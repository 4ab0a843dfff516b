#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "model/gemma/activations.hpp"
#include "model/gemma/config.hpp"
#include "model/gemma/weights.hpp"
#include "model/model.hpp"

namespace gemlet {

/// Gemma 3's text model.
class Gemma final : public Model {
 public:
  Gemma(const GgufFile& file, std::size_t tokens);

  const ModelShape& shape() const override { return config_.shape; }
  Hyperparameters hyperparameters() const override { return gemlet::hyperparameters(config_); }
  std::unique_ptr<Activations> make_activations(const kernels::Kernels& table, ThreadPool& pool) const override;
  void forward(std::span<const Segment> segments, Activations& activations, float* logits, const Cancel* cancel,
               const LayerTrace& trace) const override;
  std::size_t step_bytes() const override;
  bool adaptable(const Tensor& tensor) const override;

 private:
  void embed(GemmaActivations& s) const;
  void attention(const LayerShape& layer, const GemmaLayerWeights& w, GemmaActivations& s) const;
  void store(const LayerShape& layer, const GemmaLayerWeights& w, GemmaActivations& s) const;
  void feed_forward(const LayerShape& layer, const GemmaLayerWeights& w, GemmaActivations& s) const;
  void logits(GemmaActivations& s, float* out) const;

  GemmaConfig config_;
  GemmaWeights weights_;
};

std::unique_ptr<const Model> make_gemma3(const GgufFile& file, std::size_t tokens);

}  // namespace gemlet
