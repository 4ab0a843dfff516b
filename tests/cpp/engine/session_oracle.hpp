#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/tiny_answers.hpp"
#include "gemlet/gemlet.hpp"
#include "tiny_model.hpp"

/// What fresh sessions of an engine compute. Texts that are known beforehand, many of which begin alike, are computed
/// once in a single prefill each, and any other when it is asked for.
class SessionOracle {
 public:
  using Tokens = std::vector<gemlet::Token>;
  using Floats = std::vector<float>;
  static constexpr std::size_t adapters = 3;  ///< the first is none

  SessionOracle(std::shared_ptr<const gemlet::Engine> engine, tiny::Random& random, std::size_t length)
      : engine_(std::move(engine)) {
    for (std::size_t i = 0; i < 8; ++i) {
      Tokens text;
      if (i > 0 && random.below(4) > 0) {
        text = texts_[random.below(texts_.size())];
        text.resize(random.below(length));
      }
      while (text.size() < length) text.push_back(static_cast<gemlet::Token>(random.below(290)));
      texts_.push_back(std::move(text));
    }
    const gemlet::TensorInfo& tensor = query_projection();
    const auto rows = static_cast<std::size_t>(tensor.shape[0]);
    const auto cols = static_cast<std::size_t>(tensor.shape[1]);
    adapters_.push_back(nullptr);
    while (adapters_.size() < adapters) {
      gemlet::AdapterUpdate update{.tensor = tensor.name, .rank = 2, .a = {}, .b = {}, .scale = 0.5F};
      for (std::size_t i = 0; i < 2 * cols; ++i) update.a.push_back(0.3F * random.uniform());
      for (std::size_t i = 0; i < 2 * rows; ++i) update.b.push_back(random.uniform());
      adapters_.push_back(engine_->make_adapter({&update, 1}));
    }
  }

  const std::shared_ptr<const gemlet::Adapter>& adapter(std::size_t index) const { return adapters_[index]; }

  /// The logits after `tokens`, which are not empty.
  std::span<const float> last(const Tokens& tokens, std::size_t adapter) {
    for (std::size_t i = 0; i < texts_.size(); ++i) {
      if (!begins_with(texts_[i], tokens)) continue;
      const Floats& rows = text_logits(i, adapter);
      const std::size_t width = rows.size() / texts_[i].size();
      return std::span(rows).subspan((tokens.size() - 1) * width, width);
    }
    const auto [place, is_new] = others_.try_emplace({adapter, tokens});
    if (is_new) place->second = computed(tokens, adapter, gemlet::Logits::last);
    return place->second;
  }

  /// `count` tokens that a text may go on with: as a known one does, mostly, if it is the beginning of one.
  Tokens continuation(const Tokens& tokens, std::size_t count, tiny::Random& random) const {
    Tokens next;
    const std::size_t first = random.below(texts_.size());
    for (std::size_t i = 0; i < texts_.size() && random.below(20) > 0; ++i) {
      const Tokens& text = texts_[(first + i) % texts_.size()];
      if (!begins_with(text, tokens)) continue;
      const auto begin = text.begin() + static_cast<std::ptrdiff_t>(tokens.size());
      next.assign(begin, begin + static_cast<std::ptrdiff_t>(std::min(count, text.size() - tokens.size())));
      break;
    }
    while (next.size() < count) next.push_back(static_cast<gemlet::Token>(random.below(290)));
    return next;
  }

  /// What generate() gives in a fresh session.
  const gemlet::GenerateResult& completion(const Tokens& prompt, const gemlet::GenerateOptions& options,
                                           std::size_t adapter, int context) {
    const auto& sampling = options.sampling;
    const std::tuple key(adapter, context, options.max_tokens, sampling.seed, sampling.temperature,
                         sampling.top_logprobs, prompt);
    const auto [place, is_new] = completions_.try_emplace(key);
    if (is_new) {
      gemlet::Session session(engine_, context);
      session.set_adapter(adapters_[adapter]);
      place->second = gemlet::generate(session, prompt, options);
    }
    return place->second;
  }

 private:
  static bool begins_with(const Tokens& text, const Tokens& tokens) {
    return tokens.size() <= text.size() && std::equal(tokens.begin(), tokens.end(), text.begin());
  }

  const gemlet::TensorInfo& query_projection() const {
    const auto& tensors = engine_->info().tensors;
    return *std::find_if(tensors.begin(), tensors.end(),
                         [](const gemlet::TensorInfo& tensor) { return tensor.name == "blk.0.attn_q.weight"; });
  }

  Floats computed(const Tokens& tokens, std::size_t adapter, gemlet::Logits wanted) const {
    gemlet::Session session(engine_);
    session.set_adapter(adapters_[adapter]);
    const auto logits = session.prefill(tokens, wanted);
    return {logits.begin(), logits.end()};
  }

  const Floats& text_logits(std::size_t text, std::size_t adapter) {
    const auto [place, is_new] = text_logits_.try_emplace({text, adapter});
    if (is_new) place->second = computed(texts_[text], adapter, gemlet::Logits::all);
    return place->second;
  }

  std::shared_ptr<const gemlet::Engine> engine_;
  std::vector<std::shared_ptr<const gemlet::Adapter>> adapters_;
  std::vector<Tokens> texts_;
  std::map<std::pair<std::size_t, std::size_t>, Floats> text_logits_;
  std::map<std::pair<std::size_t, Tokens>, Floats> others_;
  std::map<std::tuple<std::size_t, int, int, std::uint64_t, float, int, Tokens>, gemlet::GenerateResult> completions_;
};
