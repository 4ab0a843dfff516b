#include <optional>
#include <string>
#include <utility>

#include "engine/completion.hpp"
#include "engine/speculate.hpp"

namespace gemlet {
namespace {

bool is_set(const Cancel* cancel) { return cancel != nullptr && cancel->load(std::memory_order_relaxed); }

/// Appends the token that was sampled last, and samples from the logits after it.
void step(Session& session, Completion& completion, const Cancel* cancel) {
  Session* const sessions[] = {&session};
  const Token tokens[] = {completion.last_token()};
  Session::step(sessions, tokens, cancel);
  completion.sample(session.logits());
}

/// A step of speculative decoding: one token, and as many more as there are draft tokens accepted.
void step(Speculator& speculator, Completion& completion, const Cancel* cancel) {
  const auto sample = [&](std::span<const float> logits) {
    completion.sample(logits);
    return completion.running() && !is_set(cancel) ? std::optional(completion.last_token()) : std::nullopt;
  };
  speculator.step(completion.last_token(), completion.tokens_left(), completion.sampler(), sample, cancel);
  completion.set_drafted(speculator.drafted(), speculator.accepted());
}

}  // namespace

GenerateResult generate(Session& session, const Prompt& prompt, const GenerateOptions& options, const OnText& on_text,
                        const Cancel* cancel, const OnPiece& on_piece) {
  Completion completion(Session::Impl::of(session).parts(), static_cast<std::size_t>(session.context()), prompt.tokens,
                        options, join(on_text, on_piece));
  std::optional<Speculator> speculator;
  if (options.speculate != Speculate::none) speculator.emplace(session, options);
  std::size_t kept = 0;
  try {
    completion.begin();
    kept = static_cast<std::size_t>(session.advance_to(prompt, cancel));
    completion.set_reused(static_cast<int>(kept));
    completion.sample(session.logits());
    while (completion.running()) {
      if (is_set(cancel)) throw Error(Error::Kind::cancelled, "generation was cancelled");
      if (speculator) {
        step(*speculator, completion, cancel);
      } else {
        step(session, completion, cancel);
      }
    }
  } catch (const Error& error) {
    if (error.kind() != Error::Kind::cancelled) throw;
    if (completion.running()) completion.finish(FinishReason::cancelled);
  }
  Session::Impl::of(session).check_since(kept, &Session::Impl::check_unchanged);
  return completion.take_result();
}

std::vector<GenerateResult> generate_batch(const std::shared_ptr<const Engine>& engine,
                                           std::span<const std::vector<Token>> prompts,
                                           std::span<const GenerateOptions> options,
                                           const std::function<bool(std::size_t index, std::string_view text)>& on_text,
                                           const Cancel* cancel) {
  if (options.size() != prompts.size()) {
    throw Error(Error::Kind::argument, "there are " + std::to_string(prompts.size()) + " prompts and " +
                                           std::to_string(options.size()) + " options, expected one for each");
  }
  std::vector<GenerateResult> results(prompts.size());
  const auto of_prompt = [](std::size_t i, const Error& error) {
    return Error(error.kind(), "prompt " + std::to_string(i) + ": " + error.what());
  };
  std::exception_ptr failure;
  {
    Scheduler scheduler(engine);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      try {
        scheduler.submit({.prompt = prompts[i],
                          .options = options[i],
                          .on_text = [&on_text, i](std::string_view text) { return !on_text || on_text(i, text); },
                          .on_end =
                              [&, i](Outcome&& outcome) {
                                results[i] = std::move(outcome.result);
                                if (outcome.error == nullptr || failure != nullptr) return;
                                try {
                                  std::rethrow_exception(outcome.error);
                                } catch (const Error& error) {
                                  failure = std::make_exception_ptr(of_prompt(i, error));
                                } catch (...) {
                                  failure = outcome.error;
                                }
                              },
                          .session = std::nullopt});
      } catch (const Error& error) {
        throw of_prompt(i, error);
      }
    }
    try {
      while (failure == nullptr && !is_set(cancel) && scheduler.step(cancel)) {
      }
    } catch (const Error& error) {
      if (error.kind() != Error::Kind::cancelled) throw;
    }
  }  // ends those that are still running, as cancelled
  if (failure != nullptr) std::rethrow_exception(failure);
  return results;
}

}  // namespace gemlet
