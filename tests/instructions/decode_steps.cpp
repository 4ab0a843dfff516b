#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "gemlet/gemlet.hpp"

// A prompt, then greedy steps, on one thread with the AVX2 kernels or their like: the same instructions in every run.
// decode_steps MODEL PROMPT_TOKENS STEPS
int main(int argc, char** argv) try {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s MODEL PROMPT_TOKENS STEPS\n", argv[0]);
    return 2;
  }
  gemlet::EngineOptions options;
  options.threads = 1;
  const auto engine = gemlet::Engine::load(argv[1], options);
  std::vector<gemlet::Token> prompt(static_cast<std::size_t>(std::atoi(argv[2])));
  for (std::size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<gemlet::Token>(300 + i % 200);

  gemlet::Session session(engine);
  std::span<const float> logits = session.prefill(prompt);
  for (int i = 0; i < std::atoi(argv[3]); ++i) {
    const auto best = static_cast<gemlet::Token>(std::ranges::max_element(logits) - logits.begin());
    logits = session.prefill({best});
  }
  std::printf("%s\n", engine->info().kernels.c_str());
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
