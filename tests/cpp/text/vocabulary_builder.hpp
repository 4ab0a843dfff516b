#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "check.hpp"
#include "format/gguf.hpp"
#include "gemlet/error.hpp"
#include "gguf_builder.hpp"
#include "text/tokenizer.hpp"

// Small vocabularies for tests of the tokenizer.
namespace vocabularies {

using Tokens = std::vector<gemlet::Token>;

enum Type : std::int32_t { normal = 1, unknown, control, user_defined, unused, byte };

struct Entry {
  std::string piece;
  std::int32_t type = normal;
  float score = 0;
};

inline const std::vector<Entry>& letters() {
  static const std::vector<Entry> entries = {
      {"<unk>", unknown},         {"<bos>", control},     {"<eos>", control},
      {"<end_of_turn>", control}, {"a", normal, -10},     {"b", normal, -11},
      {"c", normal, -12},         {"ab", normal, -1},     {"bc", normal, -2},
      {"abc", normal, -3},        {"\u2581", normal, -4}, {"\u2581a", normal, -5},
      {"<b", user_defined},       {"  ", user_defined},   {"<bos><eos>x", user_defined},
  };
  return entries;
}

inline gguf::Builder vocabulary(const std::vector<Entry>& entries) {
  gguf::Builder file;
  std::vector<std::string> pieces;
  std::vector<float> scores;
  std::vector<std::int32_t> types;
  for (const Entry& entry : entries) {
    pieces.push_back(entry.piece);
    scores.push_back(entry.score);
    types.push_back(entry.type);
  }
  file.add_string("tokenizer.ggml.model", "llama");
  file.add_strings("tokenizer.ggml.tokens", pieces);
  file.add_array("tokenizer.ggml.scores", gguf::f32, scores);
  file.add_array("tokenizer.ggml.token_type", gguf::i32, types);
  file.add_u32("tokenizer.ggml.bos_token_id", 1);
  file.add_u32("tokenizer.ggml.eos_token_id", 2);
  file.add_bool("tokenizer.ggml.add_space_prefix", false);
  return file;
}

/// A byte token for each byte.
inline void add_bytes(std::vector<Entry>& entries, std::int32_t type) {
  constexpr const char* digits = "0123456789ABCDEF";
  for (int value = 0; value < 256; ++value) {
    entries.push_back({std::string("<0x") + digits[value / 16] + digits[value % 16] + ">", type});
  }
}

inline gemlet::Tokenizer load(const gguf::Builder& file) {
  const gguf::TemporaryDirectory directory;
  return gemlet::Tokenizer(gemlet::GgufFile(directory.write("vocabulary.gguf", file.build().bytes)));
}

inline void expect_error(const gguf::Builder& file, const std::string& key, const std::string& what,
                         check::Where where = check::Where::current()) {
  const std::string message = check::throws<gemlet::Error>([&] { load(file); }, where);
  check::that(message.find("vocabulary.gguf") != std::string::npos && message.find(key) != std::string::npos &&
                  message.find(what) != std::string::npos,
              message, where);
}

}  // namespace vocabularies
