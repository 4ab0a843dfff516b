#pragma once

#include <random>
#include <span>
#include <unordered_map>
#include <vector>

#include "gemlet/gemlet.hpp"

namespace gemlet {

/// Draws tokens by a Sampling. The random numbers come from the seed alone and the arithmetic is single-threaded, so
/// that a seed gives the same text on any number of threads.
class Sampler {
 public:
  /// Throws Error(argument) naming the field that is out of range. `prompt` feeds the repetition penalty.
  Sampler(const Sampling& sampling, int vocabulary, std::span<const Token> prompt);

  /// Throws Error(argument) if every logit is NaN or minus infinity.
  SampledToken sample(std::span<const float> logits);

 private:
  Sampling sampling_;
  int vocabulary_;
  std::mt19937_64 random_;
  std::unordered_map<Token, int> answer_counts_;
  std::unordered_map<Token, int> all_counts_;
  std::vector<float> scratch_;
};

}  // namespace gemlet
