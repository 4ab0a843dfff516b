#include <thread>
#include <vector>

#include "check.hpp"
#include "gemlet/gemlet.hpp"
#include "gguf_builder.hpp"
#include "tiny_gemma3n.hpp"

// Run under the thread sanitizer too: sessions of one engine on several threads.
using gemlet::Engine;
using gemlet::Session;
using gemlet::Token;

namespace {

std::vector<Token> prompt(int salt) {
  std::vector<Token> tokens;
  for (int i = 0; i < 15; ++i) tokens.push_back((i * 31 + salt * 7 + 3) % 290);
  return tokens;
}

std::vector<float> play(const std::shared_ptr<const Engine>& engine, int salt) {
  Session session(engine);
  session.prefill(prompt(salt));
  Session fork = session.fork();
  for (Token token = 10; token < 20; ++token) fork.prefill({token});
  gemlet::GenerateOptions options;
  options.max_tokens = 8;
  options.sampling.seed = 3;
  const auto result = gemlet::generate(session, prompt(salt + 1), options);
  std::vector<float> values(fork.logits().begin(), fork.logits().end());
  values.insert(values.end(), result.tokens.begin(), result.tokens.end());
  return values;
}

}  // namespace

TEST("sessions on several threads answer as each does alone") {
  const gguf::TemporaryDirectory directory;
  const auto path = directory.write("tiny.gguf", tiny::gemma3n().build().bytes);
  for (const int threads : {1, 2, 3}) {
    const auto engine = Engine::load(path, {.threads = threads, .chunk = 4});
    constexpr int players = 4;
    std::vector<std::vector<float>> expected;
    for (int i = 0; i < players; ++i) expected.push_back(play(engine, i));
    std::vector<std::vector<float>> answers(players);
    {
      std::vector<std::jthread> running;
      for (int i = 0; i < players; ++i) {
        running.emplace_back([&, i] { answers[static_cast<std::size_t>(i)] = play(engine, i); });
      }
    }
    CHECK(answers == expected);
  }
}

TEST("a call is cancelled from another thread") {
  const gguf::TemporaryDirectory directory;
  const auto engine = Engine::load(directory.write("tiny.gguf", tiny::gemma3n().build().bytes), {.threads = 2});
  Session session(engine);
  gemlet::Cancel cancel = false;
  std::jthread stopper([&] { cancel = true; });
  gemlet::GenerateOptions options;
  options.max_tokens = 1 << 20;
  options.sampling.logit_bias = {{1, -100.0F}, {261, -100.0F}};  // never ends by itself, but at the context's end
  const auto result = gemlet::generate(session, prompt(0), options, {}, &cancel);
  CHECK(result.finish_reason == gemlet::FinishReason::cancelled ||
        result.finish_reason == gemlet::FinishReason::context);
}

int main() { return check::run_tests(); }
