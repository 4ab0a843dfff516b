#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>

#include "model/gemma3n/activations.hpp"
#include "model/gemma3n/config.hpp"
#include "model/gemma3n/weights.hpp"
#include "model/model.hpp"

namespace gemlet {

/// Gemma 3n's text model.
class Gemma3n final : public Model {
 public:
  Gemma3n(const GgufFile& file, std::size_t tokens);

  const ModelShape& shape() const override { return config_.shape; }
  Hyperparameters hyperparameters() const override;
  std::unique_ptr<Activations> make_activations(const kernels::Kernels& table, ThreadPool& pool) const override;
  void forward(std::span<const Segment> segments, Activations& activations, float* logits, const Cancel* cancel,
               const LayerTrace& trace) const override;
  std::size_t step_bytes() const override;
  std::shared_ptr<const Model> sliced(const Slice& slice) const override;
  bool adaptable(const Tensor& tensor) const override;
  std::optional<Tensor> used_part(const Tensor& tensor) const override;
  bool on_flash(const Tensor& tensor) const override { return weights_->embed_tokens_per_layer.is(tensor); }

 private:
  void embed(Gemma3nActivations& s) const;
  void per_layer_inputs(Gemma3nActivations& s) const;
  void altup_expand(Gemma3nActivations& s) const;
  void layer(std::size_t index, Gemma3nActivations& s) const;
  void altup_predict(const Gemma3nLayerWeights& w, Gemma3nActivations& s) const;
  void attention(std::size_t index, const Gemma3nLayerWeights& w, Gemma3nActivations& s) const;
  void feed_forward(std::size_t index, const Gemma3nLayerWeights& w, Gemma3nActivations& s) const;
  void sparse_units(const LayerShape& layer, const Matrix& up_proj, Gemma3nActivations& s) const;
  void altup_correct(const Gemma3nLayerWeights& w, Gemma3nActivations& s) const;
  void per_layer_gate(std::size_t index, const Gemma3nLayerWeights& w, Gemma3nActivations& s) const;
  void altup_collapse(Gemma3nActivations& s) const;
  void logits(Gemma3nActivations& s, float* out) const;

  void route(const Gemma3nLayerWeights& w, const float* x, float* modalities, float* scratch,
             const Gemma3nActivations& s) const;
  void match_magnitude(const float* target, float* x, const Gemma3nActivations& s) const;

  Gemma3nConfig config_;
  std::shared_ptr<const Gemma3nWeights> weights_;
};

std::unique_ptr<const Model> make_gemma3n(const GgufFile& file, std::size_t tokens);

}  // namespace gemlet
