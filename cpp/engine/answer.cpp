#include "engine/answer.hpp"

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

}  // namespace

Answer::Answer(const Engine::Impl& engine, std::size_t context, std::span<const Token> prompt,
               const GenerateOptions& options, OnText on_text)
    : tokenizer_(engine.tokenizer),
      max_tokens_(context - checked(prompt, context).size() + 1),
      options_(options),
      on_text_(std::move(on_text)),
      sampler_(options.sampling, static_cast<int>(engine.vocabulary()), prompt, options.constraint.get()),
      stream_(options.stop) {
  if (options.max_tokens < 0) {
    throw Error(Error::Kind::argument, "max_tokens is " + std::to_string(options.max_tokens) + ", expected 0 or more");
  }
  result_.stats.prompt_tokens = static_cast<int>(prompt.size());
}

void Answer::sample(std::span<const float> logits) {
  if (options_.max_tokens == 0) {
    finish(FinishReason::length);
    return;
  }
  SampledToken sampled = sampler_.sample(logits);
  const Token token = sampled.token;
  if (tokenizer_.is_end(token)) {
    finish(FinishReason::stop);
    return;
  }
  result_.tokens.push_back(token);
  if (options_.sampling.top_logprobs > 0) result_.logprobs.push_back(std::move(sampled));
  std::string bytes;
  tokenizer_.append_bytes(token, false, bytes);
  if (!emit(stream_.push(bytes))) {
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

void Answer::finish(FinishReason reason) {
  running_ = false;
  result_.finish_reason = reason;
  emit(stream_.finish());
}

GenerateResult Answer::take_result() {
  result_.stats.generated_tokens = static_cast<int>(result_.tokens.size());
  return std::move(result_);
}

bool Answer::emit(std::string_view text) {
  result_.text += text;
  return text.empty() || !on_text_ || on_text_(text);
}

}  // namespace gemlet
