#include <algorithm>
#include <string>
#include <vector>

#include "check.hpp"
#include "engine/speculate.hpp"
#include "engine/tiny_answers.hpp"
#include "gemlet/gemlet.hpp"
#include "gguf_builder.hpp"
#include "tiny_gemma3n.hpp"

using gemlet::Cancel;
using gemlet::DraftLength;
using gemlet::Engine;
using gemlet::EngineOptions;
using gemlet::Error;
using gemlet::FinishReason;
using gemlet::GenerateOptions;
using gemlet::GenerateResult;
using gemlet::LookupDrafter;
using gemlet::Sampler;
using gemlet::Session;
using gemlet::Slice;
using gemlet::Speculate;
using gemlet::Token;
using tiny::prompt;
using tiny::same;

namespace {

using Tokens = std::vector<Token>;

constexpr int context = 90;

/// Wide enough for half of it to be whole blocks of the K-quants in it. The model is of random weights: its half often
/// says something else.
std::shared_ptr<const Engine> load(int chunk, std::uint64_t seed) {
  const gguf::TemporaryDirectory directory;
  tiny::Shape shape;
  shape.ffn = 512;
  const auto path = directory.write("tiny.gguf", tiny::gemma3n(shape, seed).build().bytes);
  EngineOptions options;
  options.threads = 2;
  options.context = context;
  options.chunk = chunk;
  return Engine::load(path, options);
}

std::shared_ptr<const Engine> engine() {
  static const std::shared_ptr<const Engine> loaded = load(40, 1);
  return loaded;
}

GenerateOptions options(float temperature, int max_tokens, Speculate speculate, int draft_tokens = 0) {
  GenerateOptions out;
  out.max_tokens = max_tokens;
  out.sampling.temperature = temperature;
  out.sampling.top_k = 0;
  out.sampling.seed = 5;
  out.speculate = speculate;
  out.draft_tokens = draft_tokens;
  return out;
}

/// Whether two sessions hold the same tokens and logits and go on to the same logits: the keys and values that the next
/// token sees are then the same.
bool same_state(Session& a, Session& b) {
  const auto equal = [](std::span<const float> x, std::span<const float> y) { return std::ranges::equal(x, y); };
  if (!std::ranges::equal(a.tokens(), b.tokens()) || !equal(a.logits(), b.logits())) return false;
  if (a.position() == a.context()) return true;
  const Tokens next = {70};
  return equal(a.prefill(next), b.prefill(next));
}

/// Speculates, checks that answer and session have the bits of plain decoding, and returns the answer.
GenerateResult check_same(const std::shared_ptr<const Engine>& model, const Tokens& tokens, GenerateOptions wanted) {
  Session session(model);
  const GenerateResult result = generate(session, tokens, wanted);
  wanted.speculate = Speculate::none;
  Session plain(model);
  CHECK(same(result, generate(plain, tokens, wanted)));
  CHECK(same_state(session, plain));
  return result;
}

struct Guesses {
  int drafted = 0;
  int accepted = 0;
  void add(const GenerateResult& result) {
    drafted += result.stats.drafted_tokens;
    accepted += result.stats.accepted_tokens;
  }
};

Tokens look_up(const Tokens& text, std::size_t most) {
  Session session(engine());
  session.prefill(std::span(text).first(text.size() - 1));
  return LookupDrafter(session).draft(text.back(), most, Sampler({}, engine()->info().vocabulary, text), nullptr);
}

}  // namespace

TEST("the number of draft tokens follows the acceptance rate") {
  DraftLength free(0, 15);
  for (int i = 0; i < 60; ++i) free.report(1, false);
  CHECK(free.next() >= 10);
  CHECK(DraftLength(0.4, 15).next() > 0 && DraftLength(0.4, 15).next() < DraftLength(0, 15).next());
  DraftLength dear(1, 15);  // a draft token that costs a step is never worth it
  for (int i = 0; i < 60; ++i) dear.report(1, false);
  CHECK(dear.next() == 0);
  CHECK(DraftLength(0, 3).next() == 3 && DraftLength(0, 0).next() == 0);
}

TEST("drafting pauses while draft tokens are rejected, is tried now and then, and resumes when they are accepted") {
  DraftLength length(0.3, 15);
  int rounds = 0;
  while (length.next() > 0) {
    length.report(0, true);
    ++rounds;
  }
  CHECK(rounds > 1 && rounds < 10);
  const auto plain_steps = [&] {
    int steps = 0;
    while (length.next() == 0) ++steps;
    return steps;
  };
  const int rest = plain_steps();
  CHECK(rest > 8 && length.next() == 1);
  length.report(0, true);
  CHECK(plain_steps() >= rest);
  int trials = 0;
  do {
    length.report(1, false);
    ++trials;
  } while (length.next() == 0 || plain_steps() > 0);
  CHECK(trials > 1 && trials < 20);
}

TEST("what followed the longest and latest earlier occurrence") {
  CHECK(look_up({10, 11, 12, 13, 14, 15, 10, 11}, 3) == Tokens({12, 13, 14}));
  CHECK(look_up({10, 11, 12, 10, 11, 13, 10, 11}, 1) == Tokens({13}));
  CHECK(look_up({9, 10, 11, 12, 8, 10, 11, 13, 9, 10, 11}, 1) == Tokens({12}));  // three beat two
  CHECK(look_up({10, 11, 12, 13, 14, 15, 16, 11}, 3).empty());                   // one alone is chance
  CHECK(look_up({10, 11}, 3).empty() && look_up({10, 10}, 3).empty());
  CHECK(look_up({10, 11, 10, 11, 10, 11}, 5) == Tokens({10, 11, 10, 11, 10}));  // round in a circle
  CHECK(look_up({10, 11, 12, 1, 14, 15, 10, 11}, 5) == Tokens({12}));           // nothing follows an end token
  CHECK(look_up({10, 11, 12, 10, 11}, 0).empty());
}

TEST("the completion has the bits of plain decoding, whatever the drafter and the acceptance rate") {
  Guesses slice;
  Guesses lookup;
  for (std::uint64_t seed = 1; seed < 4; ++seed) {
    const auto model = load(40, seed);
    for (const float temperature : {0.0F, 0.8F, 3.0F}) {
      for (const int drafts : {0, 1, 4, 15}) {
        slice.add(check_same(model, prompt(9), options(temperature, 40, Speculate::slice, drafts)));
        lookup.add(check_same(model, prompt(30), options(temperature, 40, Speculate::lookup, drafts)));
      }
    }
  }
  CHECK(slice.accepted > 20 && slice.drafted > slice.accepted + 100);
  CHECK(lookup.accepted > 20 && lookup.drafted > lookup.accepted + 20);
}

TEST("wrapped windows, small chunks and a draft without some layers") {
  for (const int chunk : {1, 2, 5}) {
    const auto model = load(chunk, 2);
    GenerateOptions wanted = options(1.5F, 60, Speculate::slice, 15);
    const GenerateResult half = check_same(model, prompt(20), wanted);
    CHECK((half.stats.drafted_tokens > 0) == (chunk > 1));  // a chunk of one has room for no draft token
    wanted.draft = Slice{.ffn_widths = {256, 512, 512, 256}, .dropped_layers = {3}};
    check_same(model, prompt(20), wanted);
    wanted.draft = Slice{.dropped_layers = {0, 3, 4}};
    check_same(model, prompt(20), wanted);
  }
}

TEST("a draft that is the model itself is always right") {
  for (const float temperature : {0.0F, 2.0F}) {
    GenerateOptions wanted = options(temperature, 33, Speculate::slice, 4);
    wanted.draft = Slice{};
    wanted.sampling.repetition_penalty = 1.3F;
    wanted.sampling.logit_bias = {{1, -1e6F}, {261, -1e6F}};
    const GenerateResult result = check_same(engine(), prompt(9), wanted);
    CHECK(result.tokens.size() == 33 && result.stats.accepted_tokens == result.stats.drafted_tokens);
    CHECK(result.stats.accepted_tokens == 25);  // of 33: the prompt's own, six rounds of 1 + 4, one of 1 + 1
  }
}

TEST("a completion ends where it would without speculative decoding") {
  for (const Speculate who : {Speculate::slice, Speculate::lookup}) {
    for (const int most : {0, 1, 2, 3, 7}) check_same(engine(), prompt(12), options(0, most, who, 15));
    const GenerateResult full = check_same(engine(), prompt(context - 6), options(2, 30, who, 15));
    CHECK(full.finish_reason == FinishReason::context && full.tokens.size() == 7);

    GenerateOptions wanted = options(0, 30, who, 6);
    const Token hello = *engine()->find_token("hello");
    wanted.sampling.logit_bias = {{hello, 1e6F}};
    wanted.stop = {"lohellohellohel"};
    CHECK(check_same(engine(), prompt(6), wanted).finish_reason == FinishReason::stop);
    wanted.stop.clear();
    wanted.sampling.top_logprobs = 2;
    CHECK(check_same(engine(), prompt(6), wanted).logprobs.size() == 30);
    wanted.sampling.logit_bias = {{1, 8.0F}};  // soon an end token
    check_same(engine(), prompt(6), wanted);
  }
}

TEST("the reader and a cancel stop the completion where they would without speculative decoding") {
  for (const Speculate who : {Speculate::none, Speculate::slice, Speculate::lookup}) {
    GenerateOptions wanted = options(0, 30, who, 8);
    const Token hello = *engine()->find_token("hello");
    wanted.sampling.logit_bias = {{hello, 1e6F}};
    for (const bool by_reader : {true, false}) {
      Session session(engine());
      Cancel cancel = false;
      int calls = 0;
      const auto on_text = [&](std::string_view) {
        const bool enough = ++calls == 5;
        if (enough && !by_reader) cancel = true;
        return !(enough && by_reader);
      };
      const GenerateResult result = generate(session, prompt(6), wanted, on_text, &cancel);
      CHECK(result.finish_reason == FinishReason::cancelled && result.tokens.size() == 5 && session.position() == 10);
      CHECK(generate(session, prompt(6), wanted).tokens == Tokens(30, hello));
    }
  }
}

TEST("an exception of the reader leaves the session as plain decoding would") {
  Session plain(engine());
  Session session(engine());
  for (const Speculate who : {Speculate::none, Speculate::slice}) {
    int calls = 0;
    const auto fail = [&](std::string_view) -> bool {
      if (++calls == 4) throw std::runtime_error("enough");
      return true;
    };
    GenerateOptions wanted = options(0, 30, who, 8);
    wanted.sampling.logit_bias = {{*engine()->find_token("hello"), 1e6F}};
    CHECK(check::throws<std::runtime_error>(
              [&] { generate(who == Speculate::none ? plain : session, prompt(6), wanted, fail); }) == "enough");
  }
  CHECK(session.position() == 9 && same_state(session, plain));
}

TEST("the next turn goes on from a session that speculation left") {
  Session session(engine());
  Session plain(engine());
  Tokens turn = prompt(9);
  for (int i = 0; i < 4; ++i) {
    const GenerateResult ours = generate(session, turn, options(1, 9, Speculate::slice, 7));
    const GenerateResult theirs = generate(plain, turn, options(1, 9, Speculate::none));
    CHECK(same(ours, theirs) && ours.stats.reused_tokens == theirs.stats.reused_tokens);
    turn.insert(turn.end(), ours.tokens.begin(), ours.tokens.end());
    turn.push_back(70 + i);
  }
}

TEST("adaptive drafting that is rejected soon pauses") {
  GenerateOptions wanted = options(3, 70, Speculate::slice);
  wanted.draft = Slice{.ffn_widths = {256}, .dropped_layers = {0, 3, 4}};
  wanted.sampling.logit_bias = {{1, -1e6F}, {261, -1e6F}};
  const GenerateResult result = check_same(engine(), prompt(9), wanted);
  CHECK(result.tokens.size() == 70);
  CHECK(result.stats.drafted_tokens < 35);
}

TEST("what cannot be a draft is refused before anything is computed") {
  Session session(engine());
  const auto reject = [&](const GenerateOptions& wanted, const std::string& what) {
    const std::string message = check::throws<Error>([&] { generate(session, prompt(5), wanted); });
    check::that(message.find(what) != std::string::npos, message);
    CHECK(session.position() == 0);
  };
  reject(options(0, 5, Speculate::slice, 16), "draft_tokens is 16, expected 1 to 15");
  reject(options(0, 5, Speculate::lookup, -1), "draft_tokens is -1");
  GenerateOptions wanted = options(0, 5, Speculate::slice);
  wanted.draft = Slice{.ffn_share = 0.3};
  reject(wanted, "slice: layer 0");
}

int main() { return check::run_tests(); }
