#include <algorithm>
#include <string>
#include <vector>

#include "check.hpp"
#include "text/vocabulary_builder.hpp"

// What files get wrong or leave out about their vocabulary, and what is meant.

using gemlet::Token;
using gemlet::Tokenizer;
using gemlet::TokenKind;
using namespace vocabularies;

namespace {

void drop(gguf::Builder& file, const std::string& key) {
  std::erase_if(file.metadata, [&](const gguf::Pair& pair) { return pair.key == "tokenizer.ggml." + key; });
}

/// letters() and more; the first of these is token 15.
std::vector<Entry> with(const std::vector<Entry>& more) {
  std::vector<Entry> entries = letters();
  entries.insert(entries.end(), more.begin(), more.end());
  return entries;
}
constexpr Token first = 15;

}  // namespace

TEST("every token by which the family ends an answer ends it, whatever the keys say") {
  const std::vector<Entry> ends = {{"<turn|>", control},
                                   {"<|tool_response>", user_defined},
                                   {"<start_function_response>", normal},
                                   {"</s>", normal}};
  gguf::Builder file = vocabulary(with(ends));
  file.pair("tokenizer.ggml.eos_token_id").payload = gguf::to_bytes(std::uint32_t{4});
  const Tokenizer tokenizer = load(file);
  for (const Token token : {2, 3, 4, 15, 16, 17}) check::that(tokenizer.is_end(token), std::to_string(token));
  for (const Token token : {0, 1, 5, 18}) check::that(!tokenizer.is_end(token), std::to_string(token));

  drop(file, "eos_token_id");
  CHECK(load(file).is_end(2) && !load(file).is_end(4));
}

TEST("end tokens are known by each of the keys that converters write") {
  for (const char* key : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
    gguf::Builder file = vocabulary(letters());
    drop(file, key);
    file.add_u32("tokenizer.ggml." + std::string(key), 5);
    CHECK(load(file).is_end(5) && !load(file).is_end(6));
  }
  gguf::Builder file = vocabulary(letters());
  file.add_array<std::int32_t>("tokenizer.ggml.eos_token_ids", gguf::i32, {5, 7});
  CHECK(load(file).is_end(5) && load(file).is_end(7) && !load(file).is_end(6));
  for (const std::int32_t bad : {-1, 15}) {
    gguf::Builder wrong = vocabulary(letters());
    wrong.add_array<std::int32_t>("tokenizer.ggml.eos_token_ids", gguf::i32, {bad});
    expect_error(wrong, "tokenizer.ggml.eos_token_ids", "is " + std::to_string(bad) + ", expected less than the 15");
  }
}

TEST("the begin-of-sequence token is known by name where its key is missing") {
  gguf::Builder file = vocabulary(letters());
  drop(file, "bos_token_id");
  CHECK(load(file).bos() == 1);
}

TEST("markers that a file calls ordinary are control tokens") {
  for (const std::int32_t type : {normal, unused}) {
    const Tokenizer tokenizer =
        load(vocabulary(with({{"<start_of_turn>", type}, {"<|turn>", type}, {"<turn|>", type}})));
    CHECK(tokenizer.encode("a<start_of_turn>b<|turn><turn|>", false, true) ==
          (Tokens{4, first, 5, first + 1, first + 2}));
    CHECK(tokenizer.encode("<start_of_turn>", false, false).size() > 1);
    CHECK(tokenizer.decode(Tokens{4, first, first + 2}, false) == "a");
    CHECK(tokenizer.kind(first) == TokenKind::control && tokenizer.is_end(first + 2));
  }
}

TEST("markers whose insides are part of an answer are shown, unless the file hides them") {
  const Tokenizer tokenizer =
      load(vocabulary(with({{"<|channel>", normal}, {"<|tool_call>", unused}, {"<channel|>", control}})));
  CHECK(tokenizer.kind(first) == TokenKind::user_defined && tokenizer.kind(first + 1) == TokenKind::user_defined);
  CHECK(tokenizer.kind(first + 2) == TokenKind::control);
  CHECK(tokenizer.decode(Tokens{first, 4, first + 2}, false) == "<|channel>a");
  CHECK(tokenizer.encode("<|channel>a", false, true) == (Tokens{first, 4}));
}

TEST("other pieces keep the type that the file gives them") {
  const Tokenizer tokenizer = load(
      vocabulary(with({{"<start>", normal}, {"<table>", user_defined}, {"<i>", unused}, {"<|turn>", user_defined}})));
  CHECK(tokenizer.kind(first) == TokenKind::normal && tokenizer.kind(first + 1) == TokenKind::user_defined &&
        tokenizer.kind(first + 2) == TokenKind::unused && tokenizer.kind(first + 3) == TokenKind::user_defined);
}

TEST("a file without token types, or with normal ones only, means the usual ones") {
  std::vector<Entry> entries = letters();
  add_bytes(entries, normal);
  for (Entry& entry : entries) entry.type = normal;
  gguf::Builder file = vocabulary(entries);
  for (const bool types : {true, false}) {
    if (!types) drop(file, "token_type");
    const Tokenizer tokenizer = load(file);
    CHECK(tokenizer.encode("<bos>ab<end_of_turn>", false, true) == (Tokens{1, 7, 3}));
    CHECK(tokenizer.kind(0) == TokenKind::unknown && tokenizer.kind(1) == TokenKind::control);
    CHECK(tokenizer.is_end(2) && tokenizer.is_end(3));
    CHECK(tokenizer.encode("\u00e9", false, true) == (Tokens{first + 0xC3, first + 0xA9}));
    CHECK(tokenizer.decode(Tokens{first + 0xC3, first + 0xA9}, false) == "\u00e9");
    CHECK(tokenizer.encode("<0x41>", false, true) != Tokens{first + 0x41});
  }
}

TEST("a few pieces that look like bytes are text") {
  const Tokenizer tokenizer = load(vocabulary(with({{"<0x41>", normal}})));
  CHECK(tokenizer.kind(first) == TokenKind::normal);
}

TEST("Gemma 4's vocabulary under the llama kind merges by rank") {
  std::vector<Entry> entries = letters();
  for (Entry& entry : entries) entry.score = -1000;
  gguf::Builder file = vocabulary(entries);
  file.add_strings("tokenizer.ggml.merges", {"b c", "a b"});
  CHECK(load(file).encode("abc", false, true) == Tokens{9});  // by score: of equals the leftmost pair
  file.add_string("tokenizer.ggml.pre", "gemma4");
  CHECK(load(file).encode("abc", false, true) == (Tokens{4, 8}));
  drop(file, "scores");
  CHECK(load(file).encode("abc", false, true) == (Tokens{4, 8}));
  drop(file, "merges");
  expect_error(file, "tokenizer.ggml.merges", "missing");
}

TEST("the same piece may stand for several tokens, control tokens too") {
  const std::vector<Entry> twice = {{"ab", normal, -1},
                                    {"<eos>", control},
                                    {"<bos>", control},
                                    {"<start_of_turn>", control},
                                    {"<start_of_turn>", normal}};
  gguf::Builder file = vocabulary(with(twice));
  drop(file, "bos_token_id");
  const Tokenizer tokenizer = load(file);
  CHECK(tokenizer.vocabulary() == 20 && tokenizer.bos() == 1);
  CHECK(tokenizer.encode("ab<eos><start_of_turn>", false, true) == (Tokens{7, 2, first + 3}));
  CHECK(tokenizer.is_end(2) && tokenizer.is_end(first + 1));
  CHECK(tokenizer.decode(Tokens{first, first + 1}, true) == "ab<eos>");
  gguf::Builder rules = vocabulary(with(twice));
  rules.pair("tokenizer.ggml.model").payload = "gemma4";
  rules.add_strings("tokenizer.ggml.merges", {"a b", "b c", "a b"});
  CHECK(load(rules).encode("ab", false, true) == Tokens{7});
}

TEST("typed text gives no control token, no marker and no unknown token") {
  const std::vector<Entry> more = {{"<start_of_turn>", control}, {"<|tool_call>", user_defined},
                                   {"<b>", user_defined},        {"<", normal, -20},
                                   {">", normal, -21},           {"a<", normal, -1},
                                   {"<x<|tool_call>", control}};
  const Tokenizer tokenizer = load(vocabulary(with(more)));
  const auto typed = [&](std::string_view text) {
    Tokens tokens;
    tokenizer.append_typed(text, tokens);
    return tokens;
  };
  for (const char* text :
       {"<bos>", "a<eos>b", "<start_of_turn>", "x<|tool_call>", "<unk>", "<<eos>>", "<bos<eos>>", "<x<|tool_call>"}) {
    for (const Token token : typed(text)) {
      const TokenKind kind = tokenizer.kind(token);
      check::that(kind != TokenKind::control && token != first + 1, text);
    }
  }
  // Nothing else is cut: not what only begins a marker, and not other user-defined pieces.
  CHECK(typed("a<") == Tokens{first + 5} && typed("a<b>") == (Tokens{4, first + 2}));
  CHECK(typed("ab<star") == tokenizer.encode("ab<star", false, false));
  CHECK(typed("a<eos>") != tokenizer.encode("a<eos>", false, false));  // "a" and "<" stay apart
  CHECK(typed("").empty());
  const Tokens before = {9};
  Tokens tokens = before;
  tokenizer.append_typed("b", tokens);
  CHECK(tokens == (Tokens{9, 5}));
}

TEST("typed text is safe where a control token's name has spaces or other letters") {
  const Tokenizer tokenizer = load(vocabulary(with({{"<end of\u2581turn>", control}, {"\u00e9nd", control}})));
  for (const char* text : {"<end of turn>", "<end\u2581of turn>", "<end of\u2581turn>", "a\u00e9nd"}) {
    Tokens tokens;
    tokenizer.append_typed(text, tokens);
    for (const Token token : tokens) check::that(tokenizer.kind(token) != TokenKind::control, text);
    CHECK(tokenizer.encode(text, false, true).back() >= first);
  }
}

int main() { return check::run_tests(); }
