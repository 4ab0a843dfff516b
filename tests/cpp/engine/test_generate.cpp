#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "check.hpp"
#include "engine/tiny_answers.hpp"
#include "gemlet/gemlet.hpp"
#include "gguf_builder.hpp"
#include "tiny_gemma3n.hpp"

using gemlet::Cancel;
using gemlet::Engine;
using gemlet::Error;
using gemlet::FinishReason;
using gemlet::GenerateOptions;
using gemlet::GenerateResult;
using gemlet::Session;
using gemlet::Token;
using tiny::lively;
using tiny::prompt;
using tiny::same;

namespace {

using Tokens = std::vector<Token>;

constexpr int context = 48;

std::shared_ptr<const Engine> engine() {
  static const std::shared_ptr<const Engine> loaded = [] {
    const gguf::TemporaryDirectory directory;
    const auto path = directory.write("tiny.gguf", tiny::gemma3n().build().bytes);
    gemlet::EngineOptions options;
    options.threads = 2;
    options.context = context;
    options.chunk = 5;
    return Engine::load(path, options);
  }();
  return loaded;
}

GenerateResult answer(const Tokens& tokens, const GenerateOptions& options) {
  Session session(engine());
  return generate(session, tokens, options);
}

std::string replaced(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) text += static_cast<unsigned char>(c) < 0x80 ? std::string(1, c) : "\uFFFD";
  return text;
}

}  // namespace

TEST("an answer is what stepping by hand gives, and the session holds what it was fed") {
  GenerateOptions options;
  options.max_tokens = 12;
  options.sampling.temperature = 0;
  options.sampling.logit_bias = {{1, -1e6F}, {261, -1e6F}};
  Session session(engine());
  const GenerateResult result = generate(session, prompt(9), options);
  CHECK(result.tokens.size() == 12 && result.finish_reason == FinishReason::length);

  Session by_hand(engine());
  by_hand.prefill(prompt(9));
  for (const Token token : result.tokens) {
    std::vector<float> logits(by_hand.logits().begin(), by_hand.logits().end());
    for (const Token end : {1, 261}) logits[static_cast<std::size_t>(end)] = -1e6F;
    CHECK(token == std::max_element(logits.begin(), logits.end()) - logits.begin());
    Session* const one = &by_hand;
    Session::step({&one, 1}, {&token, 1});
  }
  Tokens held = prompt(9);
  held.insert(held.end(), result.tokens.begin(), result.tokens.end() - 1);
  CHECK(std::equal(held.begin(), held.end(), session.tokens().begin(), session.tokens().end()));
  CHECK(result.stats.prompt_tokens == 9 && result.stats.reused_tokens == 0 && result.stats.generated_tokens == 12);
  CHECK(result.stats.prefill_seconds > 0 && result.stats.decode_seconds > 0);
  CHECK(result.stats.first_token_seconds >= result.stats.prefill_seconds);
}

TEST("the next turn computes only what is new, and answers the same as a new session") {
  Session session(engine());
  const GenerateResult first = generate(session, prompt(9), lively(5));
  Tokens next = prompt(9);
  next.insert(next.end(), first.tokens.begin(), first.tokens.end());
  next.push_back(70);
  const GenerateResult second = generate(session, next, lively(6, 2));
  CHECK(second.stats.reused_tokens == 13);
  CHECK(same(second, answer(next, lively(6, 2))));
}

TEST("pieces of text add up to the answer, and tokens to its bytes") {
  Session session(engine());
  std::string pieces;
  const GenerateResult result = generate(session, prompt(7), lively(25), [&](std::string_view text) {
    CHECK(!text.empty());
    pieces += text;
    return true;
  });
  CHECK(pieces == result.text && !pieces.empty());
  // Random bytes hardly ever make a character of several: each stands for itself or for U+FFFD.
  CHECK(replaced(engine()->detokenize(result.tokens)).size() >= result.text.size());
}

TEST("a seed gives one answer, another seed another") {
  CHECK(same(answer(prompt(8), lively(20)), answer(prompt(8), lively(20))));
  CHECK(answer(prompt(8), lively(20)).tokens != answer(prompt(8), lively(20, 9)).tokens);
}

TEST("end tokens end the answer and are no part of it") {
  for (const Token end : {1, 261}) {
    GenerateOptions options = lively(20);
    options.sampling.temperature = 0;
    options.sampling.logit_bias = {{end, 1e6F}};
    Session session(engine());
    const GenerateResult result = generate(session, prompt(6), options);
    CHECK(result.tokens.empty() && result.text.empty() && result.finish_reason == FinishReason::stop);
    CHECK(session.position() == 6);
  }
}

TEST("a stop string ends the answer before itself") {
  GenerateOptions options = lively(20);
  options.sampling.temperature = 0;
  const Token hello = *engine()->find_token("hello");
  options.sampling.logit_bias = {{hello, 1e6F}};
  options.stop = {"loh"};
  Session session(engine());
  std::string shown;
  const GenerateResult result = generate(session, prompt(6), options, [&](std::string_view text) {
    shown += text;
    return true;
  });
  CHECK(result.text == "hel" && shown == "hel" && result.finish_reason == FinishReason::stop);
  CHECK(result.tokens == Tokens(2, hello));
}

TEST("no tokens may be asked for, but not fewer") {
  Session session(engine());
  const GenerateResult result = generate(session, prompt(6), lively(0));
  CHECK(result.tokens.empty() && result.finish_reason == FinishReason::length && session.position() == 6);
  CHECK(check::throws<Error>([&] { generate(session, prompt(6), lively(-1)); }).find("max_tokens is -1") !=
        std::string::npos);
}

TEST("a full context ends the answer") {
  Session session(engine());
  const GenerateResult result = generate(session, prompt(context - 3), lively(20));
  CHECK(result.tokens.size() == 4 && result.finish_reason == FinishReason::context && session.position() == context);
  CHECK(answer(prompt(context), lively(20)).tokens.size() == 1);
  const std::string message = check::throws<Error>([&] { generate(session, prompt(context + 1), lively(1)); });
  CHECK(message.find("49") != std::string::npos && message.find("48") != std::string::npos);
  CHECK(session.position() == context);
  CHECK(check::throws<Error>([&] { generate(session, {}, lively(1)); }).find("empty") != std::string::npos);
}

TEST("log-probabilities come one for each token when they are wanted") {
  GenerateOptions options = lively(6);
  CHECK(answer(prompt(6), options).logprobs.empty());
  options.sampling.top_logprobs = 2;
  const GenerateResult result = answer(prompt(6), options);
  CHECK(result.logprobs.size() == 6);
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(result.logprobs[i].token == result.tokens[i] && result.logprobs[i].top.size() == 2);
    CHECK(result.logprobs[i].logprob < 0 && result.logprobs[i].logprob <= result.logprobs[i].top[0].logprob);
  }
}

TEST("the reader stops the answer, which keeps what was read") {
  Session session(engine());
  int calls = 0;
  std::string shown;
  const GenerateResult result = generate(session, prompt(6), lively(30), [&](std::string_view text) {
    shown += text;
    return ++calls < 3;
  });
  CHECK(calls == 3 && result.finish_reason == FinishReason::cancelled && result.text == shown);
  CHECK(result.tokens.size() < 30);
}

TEST("cancelling returns what there is and leaves a session that goes on") {
  Session session(engine());
  Cancel cancel = false;
  int calls = 0;
  const GenerateResult result = generate(
      session, prompt(6), lively(30),
      [&](std::string_view) {
        cancel = ++calls == 4;
        return true;
      },
      &cancel);
  CHECK(result.finish_reason == FinishReason::cancelled && !result.tokens.empty() && result.tokens.size() < 30);
  CHECK(session.position() == 6 + static_cast<int>(result.tokens.size()) - 1);
  CHECK(same(generate(session, prompt(6), lively(10)), answer(prompt(6), lively(10))));

  cancel = true;  // before the prompt
  Session untouched(engine());
  const GenerateResult nothing = generate(untouched, prompt(6), lively(30), {}, &cancel);
  CHECK(nothing.finish_reason == FinishReason::cancelled && nothing.tokens.empty() && untouched.position() == 0);
}

TEST("a batch answers each prompt as if it were alone") {
  std::vector<Tokens> prompts;
  std::vector<GenerateOptions> options;
  for (int i = 0; i < 6; ++i) {
    prompts.push_back(prompt(static_cast<std::size_t>(3 + 8 * i), i));  // the last two meet the end of the context
    options.push_back(lively(i == 2 ? 0 : 4 + 3 * i, static_cast<std::uint64_t>(i)));
    options.back().sampling.top_logprobs = i % 2;
  }
  options[1].sampling.temperature = 0;
  std::vector<std::string> shown(6);
  const auto results = generate_batch(engine(), prompts, options, [&](std::size_t index, std::string_view text) {
    shown[index] += text;
    return true;
  });
  CHECK(results.size() == 6);
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(same(results[i], answer(prompts[i], options[i])));
    CHECK(shown[i] == results[i].text);
  }
  CHECK(results[5].finish_reason == FinishReason::context && results[3].finish_reason == FinishReason::length);
  CHECK(generate_batch(engine(), {}, {}).empty());
}

TEST("stopping one prompt of a batch leaves the others alone") {
  const std::vector<Tokens> prompts = {prompt(5), prompt(6, 1)};
  const std::vector<GenerateOptions> options(2, lively(15));
  const auto results =
      generate_batch(engine(), prompts, options, [](std::size_t index, std::string_view) { return index == 0; });
  CHECK(same(results[0], answer(prompts[0], options[0])));
  CHECK(results[1].finish_reason == FinishReason::cancelled && results[1].tokens.size() < 15);
}

TEST("cancelling a batch returns what there is of each") {
  const std::vector<Tokens> prompts = {prompt(5), prompt(6, 1), prompt(7, 2)};
  const std::vector<GenerateOptions> options = {lively(2), lively(30), lively(30)};
  Cancel cancel = false;
  int calls = 0;
  const auto results = generate_batch(
      engine(), prompts, options,
      [&](std::size_t index, std::string_view) {
        if (index == 1 && ++calls == 5) cancel = true;
        return true;
      },
      &cancel);
  CHECK(same(results[0], answer(prompts[0], options[0])));
  for (const std::size_t i : {1, 2}) {
    CHECK(results[i].finish_reason == FinishReason::cancelled);
    CHECK(!results[i].tokens.empty() && results[i].tokens.size() < 30);
  }
}

TEST("a bad prompt is named before anything is computed") {
  bool called = false;
  const auto reject = [&](const Tokens& bad, GenerateOptions options, const std::string& what) {
    const std::vector<Tokens> prompts = {prompt(5), bad};
    const std::vector<GenerateOptions> both = {lively(3), std::move(options)};
    const std::string message = check::throws<Error>(
        [&] { generate_batch(engine(), prompts, both, [&](std::size_t, std::string_view) { return called = true; }); });
    check::that(message.starts_with("prompt 1: ") && message.find(what) != std::string::npos, message);
  };
  reject({}, lively(3), "empty");
  reject(prompt(49), lively(3), "49");
  reject({5, 100000}, lively(3), "100000");
  reject(prompt(5), lively(-2), "max_tokens");
  GenerateOptions options = lively(3);
  options.sampling.top_p = 2;
  reject(prompt(5), options, "top_p is 2");
  options = lively(3);
  options.stop = {""};
  reject(prompt(5), options, "stop string 0");
  CHECK(!called);
  const std::vector<Tokens> prompts = {prompt(5)};
  CHECK(check::throws<Error>([&] { generate_batch(engine(), prompts, {}); }).find("1 prompts") != std::string::npos);
}

int main() { return check::run_tests(); }
