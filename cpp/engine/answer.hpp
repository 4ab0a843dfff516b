#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <string_view>

#include "engine/engine.hpp"
#include "engine/sampler.hpp"
#include "gemlet/gemlet.hpp"
#include "text/text_stream.hpp"
#include "text/tokenizer.hpp"

namespace gemlet {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// One answer while it grows, token by token; where the logits come from is its owner's business.
class Answer {
 public:
  /// `engine` and `options` must outlive it. Throws Error(argument) for a prompt or options that cannot be,
  /// Error(context) for a prompt longer than `context`.
  Answer(const Engine::Impl& engine, std::size_t context, std::span<const Token> prompt, const GenerateOptions& options,
         OnText on_text);

  bool running() const { return running_; }
  Token last_token() const { return result_.tokens.back(); }
  const Sampler& sampler() const { return sampler_; }
  std::size_t tokens_left() const { return static_cast<std::size_t>(options_.max_tokens) - result_.tokens.size(); }

  /// Samples from the logits that follow last_token(), or the prompt.
  void sample(std::span<const float> logits);
  void finish(FinishReason reason);

  GenerateStats& stats() { return result_.stats; }
  GenerateResult take_result();

 private:
  bool emit(std::string_view text);

  const Tokenizer& tokenizer_;
  std::size_t max_tokens_;  // that the context has room for; the last one need not be computed
  const GenerateOptions& options_;
  OnText on_text_;
  Sampler sampler_;
  TextStream stream_;
  GenerateResult result_;
  bool running_ = true;
};

}  // namespace gemlet
