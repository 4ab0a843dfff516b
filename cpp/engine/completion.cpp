#include "engine/completion.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace gemlet {
namespace {

// Before the other members are made from it.
std::span<const Token> checked(std::span<const Token> prompt, std::size_t context) {
  if (prompt.empty()) throw Error(Error::Kind::argument, "the prompt is empty: expected at least one token");
  if (prompt.size() > context) {
    throw Error(Error::Kind::context, "the prompt has " + std::to_string(prompt.size()) +
                                          " tokens, the context holds " + std::to_string(context));
  }
  return prompt;
}

double seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

OnPiece join(OnText on_text, OnPiece on_piece) {
  if (!on_text) return on_piece;
  return [on_text = std::move(on_text), on_piece = std::move(on_piece)](const Piece& piece) {
    const bool more = piece.text.empty() || on_text(piece.text);
    return (!on_piece || on_piece(piece)) && more;
  };
}

Completion::Completion(const Engine::Impl& engine, std::size_t context, std::span<const Token> prompt,
                       const GenerateOptions& options, OnPiece on_piece)
    : tokenizer_(engine.tokenizer),
      max_tokens_(context - checked(prompt, context).size() + 1),
      options_(options),
      on_piece_(std::move(on_piece)),
      sampler_(options.sampling, static_cast<int>(engine.vocabulary()), prompt, options.constraint.get()),
      stream_(options.stop) {
  if (options.max_tokens < 0) {
    throw Error(Error::Kind::argument, "max_tokens is " + std::to_string(options.max_tokens) + ", expected 0 or more");
  }
  result_.stats.prompt_tokens = static_cast<int>(prompt.size());
}

SampledToken Completion::draw(std::span<const float> logits) {
  GenerateStats& stats = result_.stats;
  const bool first = result_.tokens.empty();
  if (first) stats.prefill_seconds = seconds(went_on_, Clock::now());
  SampledToken sampled = options_.max_tokens == 0 ? SampledToken() : sampler_.sample(logits);
  const Clock::time_point now = Clock::now();
  (first ? stats.first_token_seconds : stats.decode_seconds) += seconds(first ? asked_ : went_on_, now);
  return sampled;
}

void Completion::sample(std::span<const float> logits) {
  SampledToken sampled = draw(logits);
  if (options_.max_tokens == 0) {
    finish(FinishReason::length);
    return;
  }
  const Token token = sampled.token;
  if (tokenizer_.is_end(token)) {
    finish(FinishReason::stop);
    return;
  }
  result_.tokens.push_back(token);
  if (options_.sampling.top_logprobs > 0) result_.logprobs.push_back(std::move(sampled));
  std::string bytes;
  tokenizer_.append_bytes(token, false, bytes);
  const bool wanted = emit(stream_.push(bytes), 1);
  went_on_ = Clock::now();  // the reader's time is not the model's
  if (!wanted) {
    running_ = false;
    result_.finish_reason = FinishReason::cancelled;
  } else if (stream_.stopped()) {
    finish(FinishReason::stop);
  } else if (result_.tokens.size() == static_cast<std::size_t>(options_.max_tokens)) {
    finish(FinishReason::length);
  } else if (result_.tokens.size() == max_tokens_) {
    finish(FinishReason::context);
  }
}

void Completion::finish(FinishReason reason) {
  running_ = false;
  result_.finish_reason = reason;
  const std::string rest = stream_.finish();
  if (stream_.stopped() && reason != FinishReason::cancelled) {  // by a character that was left unfinished
    result_.finish_reason = FinishReason::stop;
  }
  if (!rest.empty()) emit(rest, 0);
}

void Completion::set_drafted(int drafted, int accepted) {
  result_.stats.drafted_tokens = drafted;
  result_.stats.accepted_tokens = accepted;
}

GenerateResult Completion::take_result() {
  result_.stats.generated_tokens = static_cast<int>(result_.tokens.size());
  return std::move(result_);
}

bool Completion::emit(std::string_view text, std::size_t count) {
  result_.text += text;
  if (!on_piece_) return true;
  const std::span logprobs(result_.logprobs);
  return on_piece_({text, std::span(result_.tokens).last(count), logprobs.last(std::min(count, logprobs.size()))});
}

}  // namespace gemlet
