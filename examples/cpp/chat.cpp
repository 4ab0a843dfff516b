// A conversation on the terminal: chat MODEL. Each line of standard input is a turn; the replies are streamed.
#include <gemlet/gemlet.hpp>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

bool print(std::string_view text) {
  std::cout << text << std::flush;
  return std::cout.good();  // true goes on; an output that was closed ends the completion
}

void chat(gemlet::Session& session) {
  gemlet::GenerateOptions options;
  options.max_tokens = 512;
  options.sampling.temperature = 0;  // the most likely token each time

  std::vector<gemlet::Turn> turns;
  for (std::string line; std::getline(std::cin, line);) {
    turns.push_back({.role = gemlet::Role::user, .text = line});
    const gemlet::Prompt prompt = session.engine().prompt(turns);
    gemlet::GenerateResult result = gemlet::generate(session, prompt, options, print);
    std::cout << "\n[" << result.stats.generated_tokens << " tokens, " << result.stats.reused_tokens
              << " of the prompt's " << result.stats.prompt_tokens << " reused]\n";
    // The completion's tokens become a turn, so that nothing of it is computed again.
    turns.push_back({gemlet::Role::model, std::move(result.text), std::move(result.tokens)});
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: " << argv[0] << " MODEL\n";
    return 2;
  }
  try {
    gemlet::Session session(gemlet::Engine::load(argv[1]));
    chat(session);
  } catch (const gemlet::Error& error) {
    std::cerr << (error.kind() == gemlet::Error::Kind::io ? "cannot read the model: " : "error: ") << error.what()
              << '\n';
    return 1;
  }
}
