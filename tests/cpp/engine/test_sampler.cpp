#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "check.hpp"
#include "engine/sampler.hpp"
#include "tiny_gemma3n.hpp"

using gemlet::Error;
using gemlet::SampledToken;
using gemlet::Sampler;
using gemlet::Sampling;
using gemlet::Token;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

using Floats = std::vector<float>;
using Tokens = std::vector<Token>;

Sampling greedy() {
  Sampling sampling;
  sampling.temperature = 0;
  return sampling;
}

/// Temperature 1 and no filter.
Sampling plain() {
  Sampling sampling;
  sampling.top_k = 0;
  sampling.top_p = 1;
  return sampling;
}

Tokens draw(const Sampling& sampling, const Floats& logits, int count, const Tokens& prompt = {}) {
  Sampler sampler(sampling, static_cast<int>(logits.size()), prompt);
  Tokens tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(sampler.sample(logits).token);
  return tokens;
}

std::set<Token> support(const Sampling& sampling, const Floats& logits) {
  const Tokens drawn = draw(sampling, logits, 3000);
  return {drawn.begin(), drawn.end()};
}

Floats log_of(const std::vector<double>& probabilities) {
  Floats logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p) + 3));
  return logits;
}

}  // namespace

TEST("greedy takes the greatest, the lowest id of equals") {
  CHECK(draw(greedy(), {1, 3, 3, 2}, 2) == (Tokens{1, 1}));
  CHECK(draw(greedy(), {-infinity, -5, -infinity}, 1) == Tokens{1});
  CHECK(draw(greedy(), {0}, 1) == Tokens{0});
}

TEST("the penalties are those of their papers") {
  // CTRL: positive logits are divided, negative ones multiplied; prompt and answer alike.
  Sampling sampling = greedy();
  sampling.repetition_penalty = 2;
  CHECK(draw(sampling, {4, 2.5F, 1.5F}, 4, {0}) == (Tokens{1, 0, 0, 0}));
  CHECK(draw(sampling, {-4, -5}, 1, {0}) == Tokens{1});
  // Presence counts once, frequency each time, and neither minds the prompt.
  sampling = greedy();
  sampling.presence_penalty = 1.5F;
  CHECK(draw(sampling, {4, 3, 0}, 4, {0}) == (Tokens{0, 1, 0, 0}));
  sampling = greedy();
  sampling.frequency_penalty = 1;
  CHECK(draw(sampling, {4, 2.5F, 0}, 5, {0}) == (Tokens{0, 0, 1, 0, 1}));
}

TEST("the bias comes before the penalties") {
  Sampling sampling = greedy();
  sampling.logit_bias = {{0, 3.0F}};
  sampling.repetition_penalty = 4;
  CHECK(draw(sampling, {1, 0.9F}, 1, {}) == Tokens{0});
  CHECK(draw(sampling, {1, 0.9F}, 1, {0}) == Tokens{0});  // (1 + 3) / 4 > 0.9
  CHECK(draw(sampling, {1, 1.1F}, 1, {0}) == Tokens{1});
  sampling = greedy();
  sampling.logit_bias = {{1, -infinity}};
  CHECK(draw(sampling, {1, 9, 0}, 1) == Tokens{0});
}

TEST("the filters keep what they say") {
  const Floats logits = log_of({0.1, 0.4, 0.2, 0.25, 0.05});
  Sampling sampling = plain();
  CHECK(support(sampling, logits) == (std::set<Token>{0, 1, 2, 3, 4}));
  sampling.top_k = 2;
  CHECK(support(sampling, logits) == (std::set<Token>{1, 3}));
  sampling = plain();
  sampling.top_p = 0.7F;  // 0.4 + 0.25 is not enough
  CHECK(support(sampling, logits) == (std::set<Token>{1, 2, 3}));
  sampling.top_k = 3;  // of what is left: 0.47 + 0.29
  CHECK(support(sampling, logits) == (std::set<Token>{1, 3}));
  sampling = plain();
  sampling.min_p = 0.45F;
  CHECK(support(sampling, logits) == (std::set<Token>{1, 2, 3}));
  sampling = plain();
  sampling.top_p = 1e-6F;
  CHECK(support(sampling, logits) == std::set<Token>{1});
  sampling = plain();
  sampling.temperature = 0.01F;
  CHECK(support(sampling, logits) == std::set<Token>{1});
  sampling.temperature = std::numeric_limits<float>::denorm_min();
  CHECK(support(sampling, logits) == std::set<Token>{1});
}

TEST("equal logits at the edge of top-k are kept by id") {
  Sampling sampling = plain();
  sampling.top_k = 2;
  CHECK(support(sampling, Floats(6, 1.0F)) == (std::set<Token>{0, 1}));
}

TEST("top-p over a large vocabulary needs no more than its own order") {
  // 1000 tokens of which the likeliest 700 hold the wanted mass: beyond the first sorted stretch.
  Floats logits(1000);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[(i * 37) % logits.size()] = -0.0001F * static_cast<float>(i);
  double total = 0;
  for (const float logit : logits) total += std::exp(double{logit});
  double wanted = 0;
  for (std::size_t i = 0; i < 700; ++i) wanted += std::exp(double{-0.0001F * static_cast<float>(i)});
  Sampling sampling = plain();
  sampling.top_p = static_cast<float>((wanted - 0.5) / total);
  std::set<Token> kept;
  Sampler sampler(sampling, 1000, {});
  for (int i = 0; i < 12000; ++i) kept.insert(sampler.sample(logits).token);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    CHECK(kept.contains(static_cast<Token>((i * 37) % logits.size())) == (i < 700));
  }
}

TEST("frequencies follow the probabilities") {
  const std::vector<double> probabilities = {0.02, 0.3, 0.08, 0.25, 0.1, 0.15, 0.06, 0.04};
  constexpr int draws = 40000;
  for (const float temperature : {0.7F, 1.0F, 2.5F}) {
    Sampling sampling = plain();
    sampling.temperature = temperature;
    sampling.seed = 11;
    std::vector<double> expected;
    double total = 0;
    for (const double p : probabilities) total += expected.emplace_back(std::pow(p, 1 / double{temperature}));
    std::vector<int> counts(probabilities.size());
    for (const Token token : draw(sampling, log_of(probabilities), draws)) ++counts[static_cast<std::size_t>(token)];
    double chi_square = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const double e = draws * expected[i] / total;
      chi_square += (counts[i] - e) * (counts[i] - e) / e;
    }
    CHECK(chi_square < 24.3);  // the 0.1 % point for 7 degrees of freedom
  }
}

TEST("a seed gives one sequence, on every platform") {
  const Floats logits = log_of({0.2, 0.2, 0.2, 0.2, 0.2});
  Sampling sampling = plain();
  sampling.seed = 42;
  const Tokens tokens = draw(sampling, logits, 12);
  CHECK(tokens == draw(sampling, logits, 12));
  // From std::mt19937_64, which the standard specifies: floor(5 * (x >> 11) / 2^53).
  std::mt19937_64 random(42);
  for (const Token token : tokens) {
    CHECK(token == static_cast<Token>(5 * (static_cast<double>(random() >> 11) * 0x1p-53)));
  }
  sampling.seed = 43;
  CHECK(tokens != draw(sampling, logits, 12));
}

TEST("log-probabilities are the model's own") {
  const Floats logits = log_of({0.1, 0.4, 0.2, 0.2, 0.1});
  Sampling sampling = greedy();
  sampling.top_logprobs = 3;
  sampling.logit_bias = {{0, 100.0F}};
  sampling.repetition_penalty = 3;
  Sampler sampler(sampling, 5, Tokens{1});
  const SampledToken sampled = sampler.sample(logits);
  CHECK(sampled.token == 0);
  CHECK(std::abs(sampled.logprob - std::log(0.1)) < 1e-6);
  CHECK(sampled.top.size() == 3);
  CHECK(sampled.top[0].token == 1 && sampled.top[1].token == 2 && sampled.top[2].token == 3);
  CHECK(std::abs(sampled.top[0].logprob - std::log(0.4)) < 1e-6);
  CHECK(std::abs(sampled.top[2].logprob - std::log(0.2)) < 1e-6);
  sampling.top_logprobs = 20;  // more than there are
  CHECK(Sampler(sampling, 3, {}).sample(Floats{1, -infinity, 2}).top.size() == 2);
}

TEST("logits that are not numbers are refused, and the sampler goes on as before") {
  Sampling sampling = plain();
  Sampler sampler(sampling, 3, {});
  Sampler undisturbed(sampling, 3, {});
  for (const float bad : {not_a_number, infinity}) {
    CHECK(check::throws<Error>([&] { sampler.sample(Floats{1, bad, 2}); }).find("token 1") != std::string::npos);
    CHECK(check::throws<Error>([&] { sampler.sample(Floats{bad, bad, bad}); }).find("token 0") != std::string::npos);
  }
  CHECK(check::throws<Error>([&] { sampler.sample(Floats(3, -infinity)); }).find("minus infinity") !=
        std::string::npos);
  const std::string length = check::throws<Error>([&] { sampler.sample(Floats(2)); });
  CHECK(length.find("2") != std::string::npos && length.find("3") != std::string::npos);
  for (int i = 0; i < 20; ++i) CHECK(sampler.sample(Floats(3)).token == undisturbed.sample(Floats(3)).token);
}

TEST("tokens without probability are never drawn") {
  Sampling sampling = plain();
  sampling.temperature = 100;
  CHECK(support(sampling, {-infinity, 0, -infinity, 0, -infinity}) == (std::set<Token>{1, 3}));
  sampling.top_k = 4;
  CHECK(support(sampling, {-infinity, 0, -infinity, 0, -infinity}) == (std::set<Token>{1, 3}));
}

TEST("extreme logits, biases and penalties stay numbers") {
  constexpr float most = std::numeric_limits<float>::max();
  for (const float temperature : {0.0F, 1e-30F, 1.0F, 1e30F}) {
    Sampling sampling = plain();
    sampling.temperature = temperature;
    sampling.repetition_penalty = 1e-38F;
    sampling.presence_penalty = sampling.frequency_penalty = -100;
    sampling.logit_bias = {{0, most}, {1, -most}};
    sampling.top_p = 0.9F;
    for (const Token token : draw(sampling, {most, -most, 0, 1}, 50, {0, 1, 2, 3})) CHECK(token >= 0 && token < 4);
  }
}

TEST("every field out of range is named with its value") {
  const auto rejected = [](const std::string& field, const std::string& value, const auto& edit) {
    Sampling sampling;
    edit(sampling);
    const std::string message = check::throws<Error>([&] { Sampler(sampling, 10, {}); });
    check::that(message.find(field) != std::string::npos && message.find(value) != std::string::npos &&
                    message.find("expected") != std::string::npos,
                message);
  };
  rejected("temperature", "-0.5", [](Sampling& s) { s.temperature = -0.5F; });
  rejected("temperature", "nan", [](Sampling& s) { s.temperature = not_a_number; });
  rejected("temperature", "inf", [](Sampling& s) { s.temperature = infinity; });
  rejected("top_k", "-1", [](Sampling& s) { s.top_k = -1; });
  rejected("top_p", "0", [](Sampling& s) { s.top_p = 0; });
  rejected("top_p", "1.5", [](Sampling& s) { s.top_p = 1.5F; });
  rejected("top_p", "nan", [](Sampling& s) { s.top_p = not_a_number; });
  rejected("min_p", "-0.1", [](Sampling& s) { s.min_p = -0.1F; });
  rejected("min_p", "1.1", [](Sampling& s) { s.min_p = 1.1F; });
  rejected("repetition_penalty", "0", [](Sampling& s) { s.repetition_penalty = 0; });
  rejected("repetition_penalty", "inf", [](Sampling& s) { s.repetition_penalty = infinity; });
  rejected("presence_penalty", "101", [](Sampling& s) { s.presence_penalty = 101; });
  rejected("frequency_penalty", "nan", [](Sampling& s) { s.frequency_penalty = not_a_number; });
  rejected("top_logprobs", "21", [](Sampling& s) { s.top_logprobs = 21; });
  rejected("top_logprobs", "-1", [](Sampling& s) { s.top_logprobs = -1; });
  rejected("logit_bias", "10", [](Sampling& s) { s.logit_bias = {{10, 1.0F}}; });
  rejected("logit_bias", "-1", [](Sampling& s) { s.logit_bias = {{-1, 1.0F}}; });
  rejected("logit_bias of token 3", "nan", [](Sampling& s) { s.logit_bias = {{3, not_a_number}}; });
  rejected("logit_bias of token 3", "inf", [](Sampling& s) { s.logit_bias = {{3, infinity}}; });
  for (const Token token : {-1, 10}) {
    const std::string message = check::throws<Error>([&] { Sampler({}, 10, Tokens{1, token}); });
    CHECK(message.find("prompt") != std::string::npos && message.find(std::to_string(token)) != std::string::npos);
  }
}

int main() { return check::run_tests(); }
