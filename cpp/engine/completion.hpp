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

/// A completion under way, token by token: sampling, stop strings, text and statistics. Its owner gives it the logits.
class Completion {
 public:
  /// `engine` and `options` must outlive it. Throws Error(argument) for a prompt or options that cannot be,
  /// Error(context) for a prompt longer than `context`.
  Completion(const Engine::Impl& engine, std::size_t context, std::span<const Token> prompt,
             const GenerateOptions& options, OnPiece on_piece);

  bool running() const { return running_; }
  Token last_token() const { return result_.tokens.back(); }
  const Sampler& sampler() const { return sampler_; }
  std::size_t tokens_left() const { return static_cast<std::size_t>(options_.max_tokens) - result_.tokens.size(); }

  /// The prompt is about to be computed.
  void begin() { went_on_ = Clock::now(); }
  /// Tokens of the prompt that need not be.
  void set_reused(int tokens) { result_.stats.reused_tokens = tokens; }
  /// Samples from the logits that follow last_token(), or the prompt.
  void sample(std::span<const float> logits);
  void finish(FinishReason reason);

  /// Tokens that were guessed so far, and how many of them were right.
  void set_drafted(int drafted, int accepted);
  GenerateResult take_result();

 private:
  SampledToken draw(std::span<const float> logits);
  /// Of the last `count` tokens.
  bool emit(std::string_view text, std::size_t count);

  Clock::time_point asked_ = Clock::now();
  Clock::time_point went_on_;  // from here on, computing
  const Tokenizer& tokenizer_;
  std::size_t max_tokens_;  // that the context has room for; the last one need not be computed
  const GenerateOptions& options_;
  OnPiece on_piece_;
  Sampler sampler_;
  TextStream stream_;
  GenerateResult result_;
  bool running_ = true;
};

/// Calls both, where there are both.
OnPiece join(OnText on_text, OnPiece on_piece);

}  // namespace gemlet
