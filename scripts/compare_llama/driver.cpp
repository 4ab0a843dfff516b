// What llama.cpp's library answers to many inputs in one process; llama_driver.py speaks to it.
//
//     driver MODEL tokens plain|special
//     driver MODEL greedy STEPS CONTEXT THREADS
//     driver MODEL logits CONTEXT THREADS
//
// Standard input holds records, each a count (uint32) and so many bytes of text ("tokens") or token ids (int32, the
// others); all numbers are little-endian. For each record standard output gets:
//   tokens   a count and the ids, without the begin-of-sequence token
//   greedy   STEPS times the two most likely next tokens: id, logit, id, logit; the first of them is appended
//   logits   for each token the logits of the next one, float32
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "llama.h"

namespace {

using Tokens = std::vector<llama_token>;

struct Free {
  void operator()(llama_model* model) const { llama_model_free(model); }
  void operator()(llama_context* context) const { llama_free(context); }
};
using Model = std::unique_ptr<llama_model, Free>;
using Context = std::unique_ptr<llama_context, Free>;

struct Candidate {
  llama_token token;
  float logit;
};

template <typename T>
bool read_record(std::vector<T>& items) {
  std::uint32_t count = 0;
  if (std::fread(&count, sizeof count, 1, stdin) != 1) {
    return false;
  }
  items.resize(count);
  if (std::fread(items.data(), sizeof(T), count, stdin) != count) {
    throw std::runtime_error("standard input ends inside a record");
  }
  return true;
}

template <typename T>
void write_items(const T* items, std::size_t count) {
  if (std::fwrite(items, sizeof(T), count, stdout) != count) {
    throw std::runtime_error("standard output cannot be written");
  }
}

Model load(const std::string& path, bool vocabulary_only) {
  llama_model_params parameters = llama_model_default_params();
  parameters.vocab_only = vocabulary_only;
  Model model(llama_model_load_from_file(path.c_str(), parameters));
  if (!model) {
    throw std::runtime_error(path + ": llama.cpp cannot load it");
  }
  return model;
}

Context make_context(llama_model* model, int size, int threads) {
  llama_context_params parameters = llama_context_default_params();
  parameters.n_ctx = static_cast<std::uint32_t>(size);
  parameters.n_threads = parameters.n_threads_batch = threads;
  Context context(llama_init_from_model(model, parameters));
  if (!context) {
    throw std::runtime_error("llama.cpp cannot make a context of " + std::to_string(size) + " tokens");
  }
  return context;
}

void decode(llama_context* context, Tokens& tokens) {
  if (llama_decode(context, llama_batch_get_one(tokens.data(), static_cast<std::int32_t>(tokens.size()))) != 0) {
    throw std::runtime_error("llama_decode failed for " + std::to_string(tokens.size()) + " tokens");
  }
}

void tokenize(const llama_vocab* vocabulary, bool special) {
  std::vector<char> text;
  while (read_record(text)) {
    Tokens tokens(text.size() + 8);
    const std::int32_t found =
        llama_tokenize(vocabulary, text.data(), static_cast<std::int32_t>(text.size()), tokens.data(),
                       static_cast<std::int32_t>(tokens.size()), false, special);
    if (found < 0) {
      throw std::runtime_error("llama_tokenize wants room for " + std::to_string(-found) + " tokens");
    }
    const auto count = static_cast<std::uint32_t>(found);
    write_items(&count, 1);
    write_items(tokens.data(), count);
  }
}

void continue_greedily(llama_context* context, int vocabulary, int steps) {
  Tokens tokens;
  while (read_record(tokens)) {
    llama_memory_clear(llama_get_memory(context), true);
    for (int step = 0; step < steps; ++step) {
      decode(context, tokens);
      const float* logits = llama_get_logits_ith(context, -1);
      constexpr float least = -std::numeric_limits<float>::infinity();
      Candidate best[2] = {{-1, least}, {-1, least}};
      for (llama_token token = 0; token < vocabulary; ++token) {
        if (logits[token] > best[0].logit) {
          best[1] = std::exchange(best[0], {token, logits[token]});
        } else if (logits[token] > best[1].logit) {
          best[1] = {token, logits[token]};
        }
      }
      write_items(best, 2);
      tokens.assign(1, best[0].token);
    }
  }
}

void write_logits(llama_context* context, int vocabulary) {
  Tokens tokens;
  while (read_record(tokens)) {
    llama_memory_clear(llama_get_memory(context), true);
    for (const llama_token token : tokens) {
      Tokens one{token};
      decode(context, one);
      write_items(llama_get_logits_ith(context, -1), static_cast<std::size_t>(vocabulary));
    }
  }
}

void run(const std::vector<std::string>& arguments) {
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level >= GGML_LOG_LEVEL_WARN) {
          std::fputs(text, stderr);
        }
      },
      nullptr);
  llama_backend_init();
  const std::string& mode = arguments.at(1);
  const Model model = load(arguments.at(0), mode == "tokens");
  const llama_vocab* vocabulary = llama_model_get_vocab(model.get());
  const int size = llama_vocab_n_tokens(vocabulary);
  if (mode == "tokens") {
    tokenize(vocabulary, arguments.at(2) == "special");
  } else if (mode == "greedy") {
    const Context context = make_context(model.get(), std::stoi(arguments.at(3)), std::stoi(arguments.at(4)));
    continue_greedily(context.get(), size, std::stoi(arguments.at(2)));
  } else if (mode == "logits") {
    const Context context = make_context(model.get(), std::stoi(arguments.at(2)), std::stoi(arguments.at(3)));
    write_logits(context.get(), size);
  } else {
    throw std::runtime_error("mode: expected tokens, greedy or logits, found " + mode);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "driver: %s\n", error.what());
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
