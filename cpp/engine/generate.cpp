#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "engine/engine.hpp"
#include "engine/sampler.hpp"
#include "engine/text_stream.hpp"
#include "gemlet/gemlet.hpp"

namespace gemlet {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

bool is_set(const Cancel* cancel) { return cancel != nullptr && cancel->load(std::memory_order_relaxed); }

/// One answer while it grows. The session lags behind by the token that was sampled last.
class Answer {
 public:
  Answer(Session& session, std::span<const Token> prompt, const GenerateOptions& options, OnText on_text)
      : session_(session),
        prompt_(prompt),
        options_(options),
        on_text_(std::move(on_text)),
        sampler_(options.sampling, session.engine().info().vocabulary, prompt),
        stream_(options.stop) {
    if (options.max_tokens < 0) {
      throw Error(Error::Kind::argument,
                  "max_tokens is " + std::to_string(options.max_tokens) + ", expected 0 or more");
    }
    result_.stats.prompt_tokens = static_cast<int>(prompt.size());
  }

  bool running() const { return running_; }
  Session& session() { return session_; }
  Token last_token() const { return result_.tokens.back(); }

  /// Brings the session to the prompt and samples the first token.
  void begin(Clock::time_point called, const Cancel* cancel) {
    const Clock::time_point start = Clock::now();
    result_.stats.reused_tokens = session_.advance_to(prompt_, cancel);
    result_.stats.prefill_seconds = seconds_since(start);
    if (options_.max_tokens == 0) {
      finish(FinishReason::length);
      return;
    }
    sample();
    result_.stats.first_token_seconds = seconds_since(called);
  }

  /// Samples from the session's logits, which are those of last_token() or of the prompt.
  void sample() {
    SampledToken sampled = sampler_.sample(session_.logits());
    const Token token = sampled.token;
    if (session_.engine().is_end(token)) {
      finish(FinishReason::stop);
      return;
    }
    result_.tokens.push_back(token);
    if (options_.sampling.top_logprobs > 0) result_.logprobs.push_back(std::move(sampled));
    std::string bytes;
    session_.engine().impl().tokenizer.append_bytes(token, false, bytes);
    if (!emit(stream_.push(bytes))) {
      running_ = false;
      result_.finish_reason = FinishReason::cancelled;
    } else if (stream_.stopped()) {
      finish(FinishReason::stop);
    } else if (result_.tokens.size() == static_cast<std::size_t>(options_.max_tokens)) {
      finish(FinishReason::length);
    } else if (session_.position() == session_.context()) {
      finish(FinishReason::context);
    }
  }

  void finish(FinishReason reason) {
    running_ = false;
    result_.finish_reason = reason;
    emit(stream_.finish());
  }

  void add_decode_time(double seconds) { result_.stats.decode_seconds += seconds; }

  GenerateResult take_result() {
    result_.stats.generated_tokens = static_cast<int>(result_.tokens.size());
    return std::move(result_);
  }

 private:
  bool emit(std::string_view text) {
    result_.text += text;
    return text.empty() || !on_text_ || on_text_(text);
  }

  Session& session_;
  std::span<const Token> prompt_;
  const GenerateOptions& options_;
  OnText on_text_;
  Sampler sampler_;
  TextStream stream_;
  GenerateResult result_;
  bool running_ = true;
};

/// Finishes all answers; cancelling finishes those that are running with what they have.
void run(std::span<Answer> answers, Clock::time_point called, const Cancel* cancel) {
  try {
    for (Answer& answer : answers) answer.begin(called, cancel);
    for (;;) {
      std::vector<Answer*> running;
      std::vector<Session*> sessions;
      std::vector<Token> tokens;
      for (Answer& answer : answers) {
        if (!answer.running()) continue;
        running.push_back(&answer);
        sessions.push_back(&answer.session());
        tokens.push_back(answer.last_token());
      }
      if (running.empty()) return;
      if (is_set(cancel)) throw Error(Error::Kind::cancelled, "generation was cancelled");
      const Clock::time_point start = Clock::now();
      Session::step(sessions, tokens, cancel);
      for (Answer* answer : running) answer->sample();
      for (Answer* answer : running) answer->add_decode_time(seconds_since(start));
    }
  } catch (const Error& error) {
    if (error.kind() != Error::Kind::cancelled) throw;
    for (Answer& answer : answers) {
      if (answer.running()) answer.finish(FinishReason::cancelled);
    }
  }
}

void check_prompt(std::span<const Token> prompt, int context) {
  if (prompt.empty()) throw Error(Error::Kind::argument, "the prompt is empty: expected at least one token");
  if (prompt.size() > static_cast<std::size_t>(context)) {
    throw Error(Error::Kind::context, "the prompt has " + std::to_string(prompt.size()) +
                                          " tokens, the context holds " + std::to_string(context));
  }
}

}  // namespace

GenerateResult generate(Session& session, std::span<const Token> prompt, const GenerateOptions& options,
                        const OnText& on_text, const Cancel* cancel) {
  const Clock::time_point called = Clock::now();
  check_prompt(prompt, session.context());
  Answer answer(session, prompt, options, on_text);
  run({&answer, 1}, called, cancel);
  return answer.take_result();
}

std::vector<GenerateResult> generate_batch(const std::shared_ptr<const Engine>& engine,
                                           std::span<const std::vector<Token>> prompts,
                                           std::span<const GenerateOptions> options,
                                           const std::function<bool(std::size_t index, std::string_view text)>& on_text,
                                           const Cancel* cancel) {
  const Clock::time_point called = Clock::now();
  if (options.size() != prompts.size()) {
    throw Error(Error::Kind::argument, "there are " + std::to_string(prompts.size()) + " prompts and " +
                                           std::to_string(options.size()) + " options, expected one for each");
  }
  // Answers point to their sessions and to their options: nothing moves once it is made.
  std::vector<Session> sessions;
  std::vector<Answer> answers;
  sessions.reserve(prompts.size());
  answers.reserve(prompts.size());
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    try {
      sessions.emplace_back(engine);
      check_prompt(prompts[i], sessions[i].context());
      answers.emplace_back(sessions[i], prompts[i], options[i],
                           [&on_text, i](std::string_view text) { return !on_text || on_text(i, text); });
    } catch (const Error& error) {
      throw Error(error.kind(), "prompt " + std::to_string(i) + ": " + error.what());
    }
  }
  run(answers, called, cancel);
  std::vector<GenerateResult> results;
  for (Answer& answer : answers) results.push_back(answer.take_result());
  return results;
}

}  // namespace gemlet
