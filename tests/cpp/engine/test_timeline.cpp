#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "check.hpp"
#include "engine/tiny_answers.hpp"
#include "gemlet/gemlet.hpp"
#include "tiny_gemma3.hpp"

// Timelines that hold pictures: rows in the places of tokens, which see each other and are told apart by content.

using namespace gemlet;

namespace {

constexpr std::size_t hidden = 64;
constexpr Token placeholder = 7;

const gguf::TemporaryDirectory& directory() {
  static const gguf::TemporaryDirectory made;
  return made;
}

std::shared_ptr<const Engine> engine(int chunk = 16) {
  static const auto path = directory().write("tiny.gguf", tiny::gemma3().build().bytes);
  EngineOptions options;
  options.threads = 2;
  options.chunk = chunk;
  return Engine::load(path, options);
}

Media picture(std::size_t begin, std::size_t count, std::uint64_t seed) {
  tiny::Random random(seed);
  auto rows = std::make_shared<std::vector<float>>(count * hidden);
  for (float& value : *rows) value = 8 * random.uniform();
  return {begin, count, content_hash(std::as_bytes(std::span(*rows))), std::move(rows)};
}

/// `count` places from `begin` of a prompt hold a picture.
Prompt with_picture(std::size_t length, std::size_t begin, std::size_t count, std::uint64_t seed) {
  Prompt prompt(tiny::prompt(length));
  std::fill_n(prompt.tokens.begin() + static_cast<std::ptrdiff_t>(begin), count, placeholder);
  prompt.media.push_back(picture(begin, count, seed));
  return prompt;
}

std::vector<float> last(const std::shared_ptr<const Engine>& loaded, const Prompt& prompt) {
  Session session(loaded);
  const auto logits = session.prefill(prompt);
  return {logits.begin(), logits.end()};
}

std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

}  // namespace

TEST("a row that is a token's embedding is the token") {
  const std::vector<float> table = tiny::gemma3_embedding();
  Prompt prompt(tiny::prompt(20));
  const std::vector<float> expected = last(engine(), prompt);
  const auto token = static_cast<std::size_t>(prompt.tokens[9]);
  auto row = std::make_shared<std::vector<float>>();
  for (std::size_t i = 0; i < hidden; ++i)
    row->push_back(table[token * hidden + i] * std::sqrt(static_cast<float>(hidden)));
  prompt.tokens[9] = placeholder;
  prompt.media.push_back({9, 1, {1, 2}, row});
  CHECK(last(engine(), prompt) == expected);
}

TEST("a picture is computed as one, whatever the chunks, and its places see each other") {
  const Prompt prompt = with_picture(40, 11, 12, 1);
  const std::vector<float> expected = last(engine(40), prompt);
  for (const int chunk : {12, 13, 16, 23, 24}) CHECK(last(engine(chunk), prompt) == expected);
  CHECK_THROWS(last(engine(11), prompt), Error::Kind::argument, "takes 12 places");
  Prompt single = prompt;  // the same rows, each a picture of its own: they see only what came before
  single.media.clear();
  for (std::size_t i = 0; i < 12; ++i) {
    const float* row = prompt.media[0].rows->data() + i * hidden;
    single.media.push_back({11 + i, 1, {i, i}, std::make_shared<std::vector<float>>(row, row + hidden)});
  }
  CHECK(last(engine(), single) != expected);
}

TEST("pictures are told apart by their content, though their places are alike") {
  const Prompt first = with_picture(40, 11, 12, 1);
  const Prompt second = with_picture(40, 11, 12, 2);
  CHECK(first.tokens == second.tokens);
  CHECK(last(engine(), first) != last(engine(), second));
  Session session(engine());
  CHECK(session.advance_to(first) == 0);
  CHECK(session.advance_to(second) == 11);
  CHECK(copy(session.logits()) == last(engine(), second));
  CHECK(session.advance_to(second) == 39);
  Prompt text(second.tokens);
  CHECK(session.advance_to(text) == 11);
  CHECK(copy(session.logits()) == last(engine(), text));
  CHECK(session.advance_to(second) == 11);
}

TEST("a prompt that ends in a picture computes the whole picture again") {
  const Prompt prompt = with_picture(23, 11, 12, 1);
  Session session(engine());
  session.prefill(prompt);
  CHECK(session.advance_to(prompt) == 11);
  CHECK(copy(session.logits()) == last(engine(), prompt));
}

TEST("a later prompt counts its media from its own first token") {
  Session session(engine());
  session.prefill(tiny::prompt(10, 3));
  session.prefill(with_picture(20, 4, 5, 1));
  CHECK(session.media().size() == 1 && session.media()[0].begin == 14);
  Prompt whole(tiny::prompt(10, 3));
  const Prompt rest = with_picture(20, 4, 5, 1);
  whole.tokens.insert(whole.tokens.end(), rest.tokens.begin(), rest.tokens.end());
  whole.media.push_back(picture(14, 5, 1));
  CHECK(copy(session.logits()) == last(engine(), whole));
}

TEST("media that do not fit are refused before anything is computed") {
  Session session(engine());
  Prompt prompt = with_picture(20, 4, 5, 1);
  prompt.media.push_back(picture(8, 3, 2));
  CHECK_THROWS(session.prefill(prompt), Error::Kind::argument, "media at position 8");
  prompt.media = {picture(18, 3, 2)};
  CHECK_THROWS(session.prefill(prompt), Error::Kind::argument, "end within the prompt's 20 tokens");
  prompt.media = {picture(2, 3, 2)};
  prompt.media[0].count = 4;
  CHECK_THROWS(session.prefill(prompt), Error::Kind::argument, "expected 4 rows of 64");
  prompt.media[0].rows = nullptr;
  CHECK_THROWS(session.advance_to(prompt), Error::Kind::argument, "media at position 2");
  CHECK(session.position() == 0);
}

TEST("there is no way back into a picture, and a fork goes on with it") {
  Session session(engine());
  session.prefill(with_picture(40, 11, 12, 1));
  CHECK_THROWS(session.rewind(15), Error::Kind::argument, "inside of a picture");
  Session fork = session.fork();
  session.rewind(11);
  CHECK(session.media().empty() && fork.media().size() == 1);
  CHECK(copy(fork.prefill({20})) == [] {
    Prompt longer = with_picture(40, 11, 12, 1);
    longer.tokens.push_back(20);
    return last(engine(), longer);
  }());
}

TEST("a restored session knows its pictures by their content") {
  const Prompt prompt = with_picture(240, 11, 12, 1);
  Session session(engine());
  session.prefill(prompt);
  const auto path = directory().path() / "saved";
  session.save(path);
  Session restored = Session::restore(engine(), path);
  CHECK(restored.media().size() == 1 && restored.media()[0].same(prompt.media[0]));
  CHECK(copy(restored.prefill({20})) == copy(session.prefill({20})));
  CHECK_THROWS(
      [&] {
        Session far = Session::restore(engine(), path);
        far.rewind(30);  // behind the sliding windows: all is to be computed again
        far.prefill({20});
      }(),
      Error::Kind::argument, "content hash was restored");
  Session again = Session::restore(engine(), path);
  again.rewind(30);
  again.advance_to(prompt);
  CHECK(copy(again.logits()) == last(engine(), prompt));
}

TEST("the scheduler answers prompts with pictures as generate does alone") {
  const auto loaded = engine();
  std::vector<GenerateResult> together(3);
  {
    Scheduler scheduler(loaded, {.sequences = 3, .prompt_rows = 4});
    for (std::size_t i = 0; i < 3; ++i) {
      scheduler.submit({.prompt = with_picture(40, 5 + 2 * i, 12, i),
                        .options = tiny::lively(8, i),
                        .on_end = [&, i](Outcome&& outcome) { together[i] = std::move(outcome.result); }});
    }
    while (scheduler.step()) {
    }
  }
  for (std::size_t i = 0; i < 3; ++i) {
    Session session(loaded);
    CHECK(tiny::same(together[i], generate(session, with_picture(40, 5 + 2 * i, 12, i), tiny::lively(8, i))));
  }
}

int main() { return check::run_tests(); }
