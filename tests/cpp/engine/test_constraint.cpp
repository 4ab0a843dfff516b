#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "check.hpp"
#include "engine/tiny_answers.hpp"
#include "gemlet/gemlet.hpp"
#include "tiny_gemma3.hpp"

// What a constraint rules out is never sampled, in every path.

using namespace gemlet;

namespace {

/// Tokens of `allowed`, whose index moves on by one at each token: a grammar with a state.
class Alternating final : public Constraint {
 public:
  explicit Alternating(std::vector<std::vector<Token>> allowed) : allowed_(std::move(allowed)) {}
  void mask(std::span<float> logits) override {
    const std::vector<Token>& now = allowed_[accepted_ % allowed_.size()];
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if (std::find(now.begin(), now.end(), static_cast<Token>(i)) == now.end()) {
        logits[i] = -std::numeric_limits<float>::infinity();
      }
    }
  }
  void accept(Token) override { ++accepted_; }
  std::unique_ptr<Constraint> clone() const override { return std::make_unique<Alternating>(*this); }

 private:
  std::vector<std::vector<Token>> allowed_;
  std::size_t accepted_ = 0;
};

std::shared_ptr<const Engine> engine() {
  static const gguf::TemporaryDirectory directory;
  static const auto path = directory.write("tiny.gguf", tiny::gemma3().build().bytes);
  return Engine::load(path, {.threads = 2});
}

GenerateOptions constrained(float temperature) {
  GenerateOptions options = tiny::lively(24);
  options.sampling.temperature = temperature;
  options.constraint = std::make_shared<Alternating>(std::vector<std::vector<Token>>{{20, 21, 22}, {30, 31}});
  return options;
}

bool fits(const std::vector<Token>& tokens) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const Token low = i % 2 == 0 ? 20 : 30;
    if (tokens[i] < low || tokens[i] > low + 2 - static_cast<Token>(i % 2)) return false;
  }
  return true;
}

}  // namespace

TEST("greedy, sampled and batched answers keep to the constraint, each from its beginning") {
  const auto loaded = engine();
  for (const float temperature : {0.0F, 3.0F}) {
    Session session(loaded);
    const GenerateResult alone = generate(session, tiny::prompt(9), constrained(temperature));
    CHECK(alone.tokens.size() == 24 && fits(alone.tokens));
    const std::vector<std::vector<Token>> prompts(3, tiny::prompt(9));
    for (const GenerateResult& result :
         generate_batch(loaded, prompts, std::vector<GenerateOptions>(3, constrained(temperature)))) {
      CHECK(tiny::same(result, alone));
    }
  }
}

TEST("draft tokens that are rejected leave no trace in the constraint") {
  const auto loaded = engine();
  GenerateOptions options = constrained(3.0F);
  Session plain(loaded);
  const GenerateResult expected = generate(plain, tiny::prompt(9), options);
  options.speculate = Speculate::lookup;
  options.draft_tokens = 4;
  Session speculating(loaded);
  const GenerateResult result = generate(speculating, tiny::prompt(9), options);
  CHECK(tiny::same(result, expected) && result.stats.drafted_tokens > result.stats.accepted_tokens);
}

TEST("a constraint that allows nothing is an error, not a token") {
  const auto loaded = engine();
  GenerateOptions options = constrained(1.0F);
  options.constraint = std::make_shared<Alternating>(std::vector<std::vector<Token>>{{}});
  Session session(loaded);
  CHECK_THROWS(generate(session, tiny::prompt(9), options), Error::Kind::argument, "no token can be drawn");
}

int main() { return check::run_tests(); }
