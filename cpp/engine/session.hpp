#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/engine.hpp"
#include "gemlet/gemlet.hpp"
#include "model/kv_cache.hpp"

namespace gemlet {

/// `tokens` is the timeline. The cache holds its first cache.length() tokens: all of them, or fewer after a rewind
/// further than the sliding windows reach or after a cancelled call; catch_up() computes the rest when it is needed.
struct Session::Impl {
  Impl(std::shared_ptr<const Engine> engine, int context);
  Impl(std::shared_ptr<const Engine> engine, KvCache held);

  const Engine::Impl& model() const { return engine->impl(); }
  std::size_t vocabulary() const { return model().model.config().vocab_size; }

  /// Throw before anything is changed: unknown ids, no tokens or more than there is room for.
  void check_ids(std::span<const Token> ids) const;
  void check(std::span<const Token> more) const;
  /// Computes what the cache lacks of tokens[0, end).
  void catch_up(std::size_t end, const Cancel* cancel);
  /// Computes `more` after the tokens that the cache holds, chunk by chunk; `out` takes the wanted logits.
  void compute(std::span<const Token> more, Segment::Want want, float* out, const Cancel* cancel);
  /// Throws Error(format) if the model computed anything that is not a number.
  void check_logits(std::span<const float> values) const;
  void truncate(std::size_t length);
  /// After a prefill with Logits::all: drops its tokens from `length` on, as if they had never been given.
  void keep(std::size_t length);

  std::shared_ptr<const Engine> engine;
  KvCache cache;
  std::vector<Token> tokens;
  std::vector<float> logits;      // of the last token; empty when that is not known
  std::vector<float> all_logits;  // of the last prefill with Logits::all
  LayerTrace trace;
};

}  // namespace gemlet
