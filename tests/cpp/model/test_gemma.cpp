#include <algorithm>
#include <cmath>
#include <vector>

#include "check.hpp"
#include "engine/tiny_answers.hpp"
#include "gemlet/gemlet.hpp"
#include "tiny_gemma3.hpp"

// Gemma 3 in itself: that it equals transformers is for tests/python.

using gemlet::Engine;
using gemlet::Logits;
using gemlet::Session;
using gemlet::Token;

namespace {

const gguf::TemporaryDirectory& directory() {
  static const gguf::TemporaryDirectory made;
  return made;
}

std::shared_ptr<const Engine> load(const std::string& name, const gguf::Builder& file, int chunk = 64) {
  gemlet::EngineOptions options;
  options.threads = 2;
  options.chunk = chunk;
  return Engine::load(directory().write(name, file.build().bytes), options);
}

std::vector<float> all_logits(const std::shared_ptr<const Engine>& engine, const std::vector<Token>& tokens) {
  Session session(engine);
  const auto logits = session.prefill(tokens, Logits::all);
  return {logits.begin(), logits.end()};
}

}  // namespace

TEST("prefill, chunks of every size and single steps give the same bits") {
  const gguf::Builder file = tiny::gemma3();
  const std::vector<Token> tokens = tiny::prompt(150);
  const std::vector<float> expected = all_logits(load("a.gguf", file), tokens);
  const auto [low, high] = std::minmax_element(expected.begin(), expected.end());
  CHECK(*high - *low > 1);
  for (const int chunk : {1, 2, 3, 7, 70})
    check::that(all_logits(load("a.gguf", file, chunk), tokens) == expected, "chunk");

  Session stepped(load("a.gguf", file, 3));
  const std::size_t vocabulary = expected.size() / tokens.size();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto row = stepped.prefill({tokens[i]});
    CHECK(std::equal(row.begin(), row.end(), expected.begin() + static_cast<std::ptrdiff_t>(i * vocabulary)));
  }
}

TEST("only the last token's logits are the last row of all of them") {
  const auto engine = load("a.gguf", tiny::gemma3(), 16);
  const std::vector<Token> tokens = tiny::prompt(50);
  const std::vector<float> all = all_logits(engine, tokens);
  Session session(engine);
  const auto last = session.prefill(tokens);
  CHECK(std::equal(last.begin(), last.end(), all.end() - static_cast<std::ptrdiff_t>(last.size())));
}

TEST("fused queries, keys and values are the three matrices in one") {
  const auto engine = load("fused.gguf", tiny::gemma3({.fused_qkv = true}));
  const auto logits = all_logits(engine, tiny::prompt(20));
  CHECK(std::all_of(logits.begin(), logits.end(), [](float v) { return std::isfinite(v); }));
}

TEST("slices are refused, as the model has none") {
  gemlet::EngineOptions options;
  options.slice = gemlet::Slice::parse("0.5");
  const auto path = directory().write("a.gguf", tiny::gemma3().build().bytes);
  CHECK_THROWS(Engine::load(path, options), gemlet::Error::Kind::argument, "MatFormer");
}

int main() { return check::run_tests(); }
