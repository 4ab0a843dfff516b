#include <cmath>
#include <memory>
#include <vector>

#include "check.hpp"
#include "engine/tiny_answers.hpp"
#include "gemlet/gemlet.hpp"
#include "tiny_gemma3.hpp"

// Low-rank updates beside the weights, against the same updates merged into them.

using namespace gemlet;

namespace {

constexpr std::size_t hidden = 64;
constexpr std::size_t rows = 96;
constexpr std::size_t rank = 3;
const char* const name = "blk.0.attn_q.weight";

const gguf::TemporaryDirectory& directory() {
  static const gguf::TemporaryDirectory made;
  return made;
}

std::shared_ptr<const Engine> load(const std::vector<float>& q_proj = tiny::gemma3_q_proj()) {
  EngineOptions options;
  options.threads = 2;
  options.chunk = 8;
  options.cache = CacheType::f32;
  const std::string file = q_proj == tiny::gemma3_q_proj() ? "plain.gguf" : "merged.gguf";
  return Engine::load(directory().write(file, tiny::gemma3({}, q_proj).build().bytes), options);
}

AdapterUpdate update(std::uint64_t seed, float scale = 0.5F) {
  tiny::Random random(seed);
  AdapterUpdate made{.tensor = name, .rank = rank, .a = {}, .b = {}, .scale = scale};
  for (std::size_t i = 0; i < rank * hidden; ++i) made.a.push_back(0.2F * random.uniform());
  for (std::size_t i = 0; i < rows * rank; ++i) made.b.push_back(random.uniform());
  return made;
}

std::vector<float> merged(const AdapterUpdate& update) {
  std::vector<float> weights = tiny::gemma3_q_proj();
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t k = 0; k < rank; ++k) {
      for (std::size_t c = 0; c < hidden; ++c) {
        weights[r * hidden + c] += update.scale * update.b[r * rank + k] * update.a[k * hidden + c];
      }
    }
  }
  return weights;
}

Session session_with(const std::shared_ptr<const Engine>& engine, const std::shared_ptr<const Adapter>& adapter) {
  Session session(engine);
  session.set_adapter(adapter);
  return session;
}

std::vector<float> logits(Session session, const std::vector<Token>& tokens) {
  const auto found = session.prefill(tokens);
  return {found.begin(), found.end()};
}

float distance(const std::vector<float>& a, const std::vector<float>& b) {
  float most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

}  // namespace

TEST("an adapter is its update merged into the weights") {
  const auto engine = load();
  const AdapterUpdate one = update(1);
  const auto adapter = engine->make_adapter({&one, 1});
  const std::vector<Token> tokens = tiny::prompt(30);
  const std::vector<float> with = logits(session_with(engine, adapter), tokens);
  const std::vector<float> plain = logits(Session(engine), tokens);
  const std::vector<float> expected = logits(Session(load(merged(one))), tokens);
  CHECK(distance(with, plain) > 0.05F);
  // The tiny model's other products round their activations to int8, which rounds some of them the other way.
  CHECK(distance(with, expected) < 0.2F * distance(with, plain));
}

TEST("sequences with different adapters and none answer together as each alone") {
  const auto engine = load();
  std::vector<std::shared_ptr<const Adapter>> adapters = {nullptr};
  for (const std::uint64_t seed : {1, 2}) {
    const AdapterUpdate one = update(seed, 4.0F);
    adapters.push_back(engine->make_adapter({&one, 1}));
  }
  std::vector<std::vector<float>> together(adapters.size());
  {
    Scheduler scheduler(engine);
    for (std::size_t i = 0; i < adapters.size(); ++i) {
      scheduler.submit({.prompt = tiny::prompt(20),
                        .options = tiny::lively(10),
                        .on_end =
                            [&, i](Outcome&& outcome) {
                              const auto last = outcome.session.logits();
                              together[i].assign(last.begin(), last.end());
                            },
                        .session = session_with(engine, adapters[i])});
    }
    while (scheduler.step()) {
    }
  }
  for (std::size_t i = 0; i < adapters.size(); ++i) {
    Session alone = session_with(engine, adapters[i]);
    generate(alone, tiny::prompt(20), tiny::lively(10));
    const auto last = alone.logits();
    CHECK(std::vector<float>(last.begin(), last.end()) == together[i]);
  }
  CHECK(together[0] != together[1] && together[1] != together[2]);
}

TEST("what was computed with another adapter is not used") {
  const auto engine = load();
  const AdapterUpdate one = update(1);
  const auto adapter = engine->make_adapter({&one, 1});
  Session session(engine);
  session.prefill(tiny::prompt(20));
  session.set_adapter(adapter);
  CHECK(session.position() == 0);
  CHECK(session.advance_to(tiny::prompt(20)) == 0);
  const auto path = directory().path() / "saved";
  session.save(path);
  CHECK_THROWS(Session::restore(engine, path), Error::Kind::unsupported, "saved with adapter");
  const auto same = engine->make_adapter({&one, 1});
  Session restored = Session::restore(engine, path, 0, same);
  CHECK(restored.position() == 20);
  const AdapterUpdate other = update(1, 0.25F);
  CHECK_THROWS(Session::restore(engine, path, 0, engine->make_adapter({&other, 1})), Error::Kind::unsupported,
               "saved with adapter");
}

TEST("an adapter of another engine is refused, even of the same file") {
  const auto engine = load();
  const AdapterUpdate one = update(1);
  Session session(engine);
  CHECK_THROWS(session.set_adapter(load()->make_adapter({&one, 1})), Error::Kind::argument, "another engine");
}

TEST("updates that do not fit the model are named") {
  const auto engine = load();
  AdapterUpdate wrong = update(1);
  wrong.tensor = "blk.9.attn_q.weight";
  CHECK_THROWS(engine->make_adapter({&wrong, 1}), Error::Kind::argument, "blk.9.attn_q.weight: the model has no such");
  for (const char* unused : {"token_embd.weight", "blk.0.attn_norm.weight"}) {  // read row by row, and a vector
    wrong.tensor = unused;
    CHECK_THROWS(engine->make_adapter({&wrong, 1}), Error::Kind::argument, "no such matrix that takes updates");
  }
  wrong = update(1);
  wrong.b.pop_back();
  CHECK_THROWS(engine->make_adapter({&wrong, 1}), Error::Kind::argument, "expected [3, 64] and [96, 3]");
  const std::vector<AdapterUpdate> twice = {update(1), update(2)};
  CHECK_THROWS(engine->make_adapter(twice), Error::Kind::argument, "named twice");
}

int main() { return check::run_tests(); }
