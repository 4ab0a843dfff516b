#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "gemlet/gemlet.hpp"

// What tests ask tiny models, and how they compare the answers.
namespace tiny {

inline std::vector<gemlet::Token> prompt(std::size_t length, gemlet::Token salt = 0) {
  std::vector<gemlet::Token> tokens;
  for (std::size_t i = 0; i < length; ++i) {
    tokens.push_back(static_cast<gemlet::Token>((i * 37 + 11 * salt + 5) % 290));
  }
  return tokens;
}

/// Sampled at a high temperature, so that a model of random weights does not repeat itself; never an end token.
inline gemlet::GenerateOptions lively(int max_tokens, std::uint64_t seed = 1) {
  gemlet::GenerateOptions options;
  options.max_tokens = max_tokens;
  options.sampling.temperature = 3;
  options.sampling.top_k = 0;
  options.sampling.top_p = 1;
  options.sampling.seed = seed;
  options.sampling.logit_bias = {{1, -1e6F}, {261, -1e6F}};
  return options;
}

inline bool same(const gemlet::GenerateResult& a, const gemlet::GenerateResult& b) {
  return a.tokens == b.tokens && a.text == b.text && a.finish_reason == b.finish_reason &&
         std::equal(a.logprobs.begin(), a.logprobs.end(), b.logprobs.begin(), b.logprobs.end(),
                    [](const auto& x, const auto& y) { return x.token == y.token && x.logprob == y.logprob; });
}

}  // namespace tiny
