#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "gemlet/gemlet.hpp"
#include "model/config.hpp"
#include "model/state.hpp"
#include "model/weights.hpp"

namespace gemlet {

/// For debugging: called after each layer with float[altup][tokens][hidden]. In the KV-shared layers only the tokens
/// whose logits are wanted are left.
using LayerTrace = std::function<void(std::size_t layer, std::span<const float> streams)>;

/// Gemma 3n's text model: immutable, used by any number of threads, each with its own State.
class Gemma3n {
 public:
  explicit Gemma3n(const GgufFile& file);

  /// A part of this model on the same weights. A State and a KvCache of the whole serve its slices too.
  /// Throws Error(argument) for a slice that this model does not have.
  Gemma3n sliced(const Slice& slice) const;

  /// Of the weights that a step of one token reads.
  std::size_t step_bytes() const;

  const Gemma3nConfig& config() const { return config_; }
  const Gemma3nWeights& weights() const { return *weights_; }

  /// Computes the segments together and advances their caches. The caches must be distinct and hold room; token ids
  /// must lie in the vocabulary. logits: float[wanted tokens][vocab], in the order of the segments. Throws
  /// Error(cancelled) between layers when *cancel is set; the caches are then as before.
  void forward(std::span<const Segment> segments, State& state, float* logits, const Cancel* cancel,
               const LayerTrace& trace = {}) const;

 private:
  void embed(State& s) const;
  void per_layer_inputs(State& s) const;
  void altup_expand(State& s) const;
  void layer(std::size_t index, State& s) const;
  void altup_predict(const LayerWeights& w, State& s) const;
  void attention(std::size_t index, const LayerWeights& w, State& s) const;
  void feed_forward(std::size_t index, const LayerWeights& w, State& s) const;
  void sparse_units(const LayerConfig& layer, const Matrix& up_proj, State& s) const;
  void altup_correct(const LayerWeights& w, State& s) const;
  void per_layer_gate(std::size_t index, const LayerWeights& w, State& s) const;
  void altup_collapse(State& s) const;
  void logits(State& s, float* out) const;

  void route(const LayerWeights& w, const float* x, float* modalities, float* scratch, const State& s) const;
  void match_magnitude(const float* target, float* x, const State& s) const;

  Gemma3nConfig config_;
  std::shared_ptr<const Gemma3nWeights> weights_;
};

}  // namespace gemlet
