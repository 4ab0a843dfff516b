#pragma once

#include <memory>
#include <random>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "gemlet/gemlet.hpp"

namespace gemlet {

/// Draws tokens by a Sampling. The random numbers come from the seed alone and the arithmetic is single-threaded, so
/// that a seed gives the same text on any number of threads.
class Sampler {
 public:
  /// Throws Error(argument) naming the field that is out of range. `prompt` feeds the repetition penalty. A clone of
  /// `constraint`, where there is one, says what may be drawn.
  Sampler(const Sampling& sampling, int vocabulary, std::span<const Token> prompt,
          const Constraint* constraint = nullptr);
  Sampler(const Sampler& other);
  Sampler& operator=(const Sampler&) = delete;

  /// `logits`: one for each token. Throws Error(argument) if one of them is NaN or plus infinity, which no softmax
  /// survives, or if all of them (after the bias) are minus infinity; the Sampler has not changed then. `logprob` and
  /// `top` are filled in only for top_logprobs > 0, as they take an exponential for each token of the vocabulary.
  SampledToken sample(std::span<const float> logits);

 private:
  struct Candidate {
    float logit;
    Token token;
    bool operator<(const Candidate& other) const {  // the likelier first, the lower id first among equals
      return logit != other.logit ? logit > other.logit : token < other.token;
    }
  };

  void check(std::span<const float> logits) const;
  void add_bias_and_penalties();
  Token draw();
  /// The `count` best candidates of adjusted_, best first.
  static std::vector<Candidate> best(std::span<const float> logits, std::size_t count);
  double weight(const Candidate& candidate, float greatest) const;
  void keep_top_p(std::vector<Candidate>& candidates, float greatest) const;
  void report(std::span<const float> logits, SampledToken& sampled) const;

  Sampling sampling_;
  std::size_t vocabulary_;
  std::mt19937_64 random_;
  std::unordered_set<Token> seen_;  // in prompt and completion
  std::unordered_map<Token, int> completion_counts_;
  std::vector<float> adjusted_;  // logits after the constraint, bias and penalties
  std::unique_ptr<Constraint> constraint_;
};

}  // namespace gemlet
