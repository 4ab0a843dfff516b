#include <chrono>
#include <string>
#include <vector>

#include "check.hpp"
#include "format/gguf.hpp"
#include "gguf_builder.hpp"
#include "text/piece_matcher.hpp"
#include "text/tokenizer.hpp"
#include "text/utf8.hpp"
#include "text/vocabulary_builder.hpp"
#include "tiny_gemma3n.hpp"

using gemlet::Error;
using gemlet::PieceMatcher;
using gemlet::Token;
using gemlet::Tokenizer;
using gemlet::TokenKind;
using namespace vocabularies;

namespace {

gguf::Builder merging(const std::vector<std::string>& merges) {
  gguf::Builder file = vocabulary(letters());
  file.pair("tokenizer.ggml.model").payload = "gemma4";
  file.add_strings("tokenizer.ggml.merges", merges);
  return file;
}

double seconds(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST("pairs merge by score, the leftmost of equals first") {
  const Tokenizer tokenizer = load(vocabulary(letters()));
  CHECK(tokenizer.encode("abc", false, true) == Tokens{9});
  CHECK(tokenizer.encode("bcab", false, true) == (Tokens{8, 7}));
  CHECK(tokenizer.encode("aabbc", false, true) == (Tokens{4, 7, 8}));
  CHECK(tokenizer.encode("abab", true, true) == (Tokens{1, 7, 7}));
  CHECK(tokenizer.encode("", false, true).empty());
}

TEST("control tokens come out of text only when asked for") {
  const Tokenizer tokenizer = load(vocabulary(letters()));
  CHECK(tokenizer.encode("a<bos>b", false, true) == (Tokens{4, 1, 5}));
  for (const Token token : tokenizer.encode("a<bos>b<eos>", false, false)) CHECK(token != 1 && token != 2);
  // The longest piece at the leftmost place counts, of either kind.
  CHECK(tokenizer.encode("<bos><eos>x", false, true) == Tokens{14});
  CHECK(tokenizer.encode("<bos><eos>", false, true) == (Tokens{1, 2}));
  CHECK(tokenizer.encode("<ba", false, false) == (Tokens{12, 4}));
}

TEST("user-defined pieces with spaces match however the file writes the space") {
  const Tokenizer tokenizer = load(vocabulary(letters()));
  CHECK(tokenizer.encode("   a", false, true) == (Tokens{13, 11}));
  CHECK(tokenizer.encode("\u2581\u2581a", false, true) == (Tokens{13, 4}));
  CHECK(tokenizer.find("  ") == Token{13});
  CHECK(tokenizer.find("\u2581\u2581") == Token{13});
  CHECK(tokenizer.piece(13) == "  ");
}

TEST("a space prefix opens each text between control tokens, and the first is taken off again") {
  gguf::Builder file = vocabulary(letters());
  file.pair("tokenizer.ggml.add_space_prefix").payload = gguf::to_bytes(std::uint8_t{1});
  const Tokenizer tokenizer = load(file);
  CHECK(tokenizer.encode("a<bos>a", false, true) == (Tokens{11, 1, 11}));
  CHECK(tokenizer.decode(Tokens{11, 11}, false) == "a a");
  CHECK(tokenizer.decode(Tokens{1, 11, 11}, true) == "<bos>a a");
  CHECK(tokenizer.decode(Tokens{4, 11}, false) == "a a");
  std::string text;
  tokenizer.append_bytes(11, false, text);
  CHECK(text == " a");
}

TEST("a vocabulary without add_space_prefix has no prefix") {
  gguf::Builder file = vocabulary(letters());
  std::erase_if(file.metadata, [](const gguf::Pair& pair) { return pair.key == "tokenizer.ggml.add_space_prefix"; });
  CHECK(load(file).encode("a", false, true) == Tokens{4});
}

TEST("what is no piece becomes bytes, or unknown, or an error") {
  CHECK(load(vocabulary(letters())).encode("axyb", false, true) == (Tokens{4, 0, 5}));
  std::vector<Entry> entries = letters();
  entries[0] = {"q"};
  const Tokenizer none = load(vocabulary(entries));
  const std::string message = check::throws<Error>([&] { none.encode("a\u00e9", false, true); });
  CHECK(message.find("\u00e9") != std::string::npos);
  add_bytes(entries, byte);
  const Tokenizer bytes = load(vocabulary(entries));
  const Token first = static_cast<Token>(letters().size());
  CHECK(bytes.encode("\u00e9", false, true) == (Tokens{first + 0xC3, first + 0xA9}));
  // Plain text that looks like a byte token is text.
  CHECK(bytes.encode("<0x41>", false, true).size() == 6);
  CHECK(bytes.decode(Tokens{first + 0xC3, 1, first + 0xA9}, false) == "\u00e9");
}

TEST("malformed bytes become U+FFFD, one each") {
  std::vector<Entry> entries = letters();
  entries.push_back({"\uFFFD"});
  const Tokenizer tokenizer = load(vocabulary(entries));
  const Token replacement = static_cast<Token>(letters().size());
  CHECK(tokenizer.encode("a\xFF", false, true) == (Tokens{4, replacement}));
  CHECK(tokenizer.encode("\xE2\x96", false, true) == (Tokens{replacement, replacement}));
  CHECK(tokenizer.encode("\xED\xA0\x80\xC0", false, true) == Tokens(4, replacement));
}

TEST("unused pieces lead to longer ones and are taken apart when they are left over") {
  std::vector<Entry> entries = letters();
  entries[7].type = unused;  // "ab"
  const Tokenizer tokenizer = load(vocabulary(entries));
  CHECK(tokenizer.encode("abc", false, true) == Tokens{9});
  CHECK(tokenizer.encode("ab", false, true) == (Tokens{4, 5}));
  CHECK(tokenizer.decode(Tokens{7}, false) == "ab");
}

TEST("rules merge by rank, and user-defined pieces keep their spaces as they are") {
  const Tokenizer tokenizer = load(merging({"b c", "a b", "a bc"}));
  CHECK(tokenizer.encode("abc", false, true) == Tokens{9});
  CHECK(tokenizer.encode("ab", false, true) == Tokens{7});
  CHECK(tokenizer.encode("abbc", false, true) == (Tokens{7, 8}));
  CHECK(tokenizer.encode(" a", false, true) == (Tokens{10, 4}));  // no rule makes "\u2581a"
  CHECK(tokenizer.encode("  ", false, true) == Tokens{13});
  CHECK(tokenizer.encode("\u2581\u2581", false, true) == (Tokens{10, 10}));
}

TEST("rules that would make a control token out of plain text do nothing") {
  std::vector<Entry> entries = letters();
  entries[9].type = control;  // "abc"
  gguf::Builder file = vocabulary(entries);
  file.pair("tokenizer.ggml.model").payload = "gemma4";
  file.add_strings("tokenizer.ggml.merges", {"a b", "ab c"});
  const Tokenizer tokenizer = load(file);
  CHECK(tokenizer.encode("abc", false, false) == (Tokens{7, 6}));
  CHECK(tokenizer.encode("abc", false, true) == Tokens{9});
}

TEST("decoding leaves control tokens out unless they are wanted, and names ids outside the vocabulary") {
  const Tokenizer tokenizer = load(vocabulary(letters()));
  CHECK(tokenizer.decode(Tokens{1, 4, 11, 0, 3}, false) == "a a \u2047 ");
  CHECK(tokenizer.decode(Tokens{1, 4, 3}, true) == "<bos>a<end_of_turn>");
  for (const Token token : {-1, 15}) {
    std::string text;
    const std::vector<std::string> messages = {
        check::throws<Error>([&] { tokenizer.decode(Tokens{token}, false); }),
        check::throws<Error>([&] { tokenizer.append_bytes(token, false, text); }),
        check::throws<Error>([&] { (void)tokenizer.piece(token); }),
        check::throws<Error>([&] { (void)tokenizer.kind(token); }),
    };
    for (const std::string& message : messages) {
      CHECK(message.find(std::to_string(token)) != std::string::npos && message.find("15") != std::string::npos);
    }
    CHECK(!tokenizer.is_end(token));
  }
}

TEST("ends of text and of turn are known by key and by name") {
  const Tokenizer tokenizer = load(vocabulary(letters()));
  CHECK(tokenizer.is_end(2) && tokenizer.is_end(3) && !tokenizer.is_end(1) && !tokenizer.is_end(4));
  CHECK(tokenizer.bos() == 1 && tokenizer.vocabulary() == 15);
  gguf::Builder file = vocabulary(letters());
  file.add_u32("tokenizer.ggml.eot_token_id", 4);
  CHECK(load(file).is_end(4));
  CHECK(tokenizer.kind(0) == TokenKind::unknown && tokenizer.kind(12) == TokenKind::user_defined);
  CHECK(!tokenizer.find("nowhere") && tokenizer.find("<eos>") == Token{2});
}

TEST("a vocabulary that contradicts itself is refused, naming file and key") {
  const auto with = [](const std::string& key, const std::function<void(gguf::Pair&)>& edit) {
    gguf::Builder file = vocabulary(letters());
    edit(file.pair("tokenizer.ggml." + key));
    return file;
  };
  expect_error(with("model", [](gguf::Pair& pair) { pair.payload = "gpt2"; }), "tokenizer.ggml.model", "gpt2");
  const auto cut = [](gguf::Pair& pair) {
    pair.payload.resize(pair.payload.size() - 4);
    --pair.count;
  };
  expect_error(with("scores", cut), "tokenizer.ggml.scores", "14");
  expect_error(with("token_type", cut), "tokenizer.ggml.token_type", "14");
  expect_error(with("tokens", [](gguf::Pair& pair) { pair.strings.clear(); }), "tokenizer.ggml.tokens", "0 entries");
  const auto set_first = [](const auto& value) {
    return [=](gguf::Pair& pair) { pair.payload.replace(0, sizeof(value), gguf::to_bytes(value)); };
  };
  expect_error(with("scores", set_first(std::numeric_limits<float>::quiet_NaN())), "tokenizer.ggml.scores", "token 0");
  for (const std::int32_t type : {-1, 0, 7}) {
    expect_error(with("token_type", set_first(type)), "tokenizer.ggml.token_type", std::to_string(type));
  }
  expect_error(with("token_type", set_first(std::int32_t{byte})), "tokenizer.ggml.token_type", "<unk>");
  expect_error(with("bos_token_id", set_first(std::uint32_t{15})), "tokenizer.ggml.bos_token_id", "15");
  expect_error(with("eos_token_id", set_first(std::uint32_t{4000000000})), "tokenizer.ggml.eos_token_id", "4000000000");
  std::vector<Entry> nameless = letters();
  nameless[1].piece = "<start>";
  gguf::Builder file = vocabulary(nameless);
  std::erase_if(file.metadata, [](const gguf::Pair& pair) { return pair.key == "tokenizer.ggml.bos_token_id"; });
  expect_error(file, "tokenizer.ggml.bos_token_id", "missing");
  file.add_u32("tokenizer.ggml.bos_token_id", 1);
  file.add_u32("tokenizer.ggml.unknown_token_id", 15);
  expect_error(file, "tokenizer.ggml.unknown_token_id", "15");
  expect_error(with("model", [](gguf::Pair& pair) { pair.payload = "gemma4"; }), "tokenizer.ggml.merges", "missing");
  for (const char* merge : {"ab", "a b c", " ab", "ab ", ""}) {
    expect_error(merging({"a b", merge}), "tokenizer.ggml.merges", "entry 1");
  }
  expect_error(merging({"a z"}), "tokenizer.ggml.merges", "\"z\" is not a token");
  expect_error(merging({"c a"}), "tokenizer.ggml.merges", "\"ca\" is not a token");
}

TEST("byte pieces are two hexadecimal digits") {
  for (const char* piece : {"<0x4>", "<0xG1>", "<0x+1>", "<0x041>", "0x41", "<0x 1>"}) {
    std::vector<Entry> entries = letters();
    entries.push_back({piece, byte});
    expect_error(vocabulary(entries), "tokenizer.ggml.token_type", piece);
  }
}

TEST("of equal pieces the first counts, and empty pieces never match") {
  std::vector<Entry> entries = letters();
  entries.push_back({"ab"});
  entries.push_back({""});
  entries.push_back({"", user_defined});
  entries.push_back({"", control});
  const Tokenizer tokenizer = load(vocabulary(entries));
  CHECK(tokenizer.encode("abab", false, true) == (Tokens{7, 7}));
  CHECK(tokenizer.find("ab") == Token{7});
}

TEST("pieces that are not UTF-8 harm nothing") {
  std::vector<Entry> entries = letters();
  entries.push_back({"\xE2", user_defined});
  entries.push_back({"\x96\x81", user_defined});
  entries.push_back({"\x96", normal});
  const Tokenizer tokenizer = load(vocabulary(entries));
  CHECK(tokenizer.encode("\u2581", false, true) == (Tokens{15, 16}));
  CHECK(tokenizer.encode("\u2580", false, true) == (Tokens{15, 17, 0}));
}

TEST("the matcher finds what a plain search finds") {
  tiny::Random random(7);
  const auto word = [&](std::uint64_t most) {
    std::string text;
    for (std::uint64_t i = 1 + random.below(most); i > 0; --i) text += static_cast<char>('a' + random.below(2));
    return text;
  };
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::pair<std::string, Token>> pieces;
    for (std::uint64_t i = random.below(6); i > 0; --i) pieces.emplace_back(word(6), static_cast<Token>(pieces.size()));
    const std::string text = word(40);
    const auto found = PieceMatcher(pieces).find(text);
    std::size_t next = 0;
    for (std::size_t at = 0; at < text.size();) {
      const std::pair<std::string, Token>* longest = nullptr;
      for (const auto& piece : pieces) {
        const bool here = std::string_view(text).substr(at).starts_with(piece.first);
        if (here && (longest == nullptr || piece.first.size() > longest->first.size())) longest = &piece;
      }
      if (longest == nullptr) {
        ++at;
        continue;
      }
      CHECK(next < found.size() && found[next].begin == at && found[next].token == longest->second &&
            found[next].size == longest->first.size());
      at += longest->first.size();
      ++next;
    }
    CHECK(next == found.size());
  }
}

TEST("a megabyte takes no time, whatever the pieces") {
  constexpr std::size_t size = 1 << 20;
  std::vector<Entry> entries = letters();
  entries.push_back({std::string(20000, 'a') + "b", user_defined});  // almost matches at every place
  entries.push_back({"aa", normal, -1});
  for (std::size_t length = 4; length <= 64; length *= 2) entries.push_back({std::string(length, 'a'), normal, -1});
  entries.insert(entries.end(), {{"bb", unused, -1}, {"\u65e5"}, {"\uFFFD"}, {"<"}});
  const Tokenizer tokenizer = load(vocabulary(entries));
  for (const std::string& unit :
       {std::string("a"), std::string("b"), std::string("ab"), std::string(" "), std::string("\u65e5"),
        std::string("\xFF"), std::string("<b"), std::string("<bos>")}) {
    std::string text;
    while (text.size() < size) text += unit;
    Tokens tokens;
    // Generous, for sanitizers and emulators: what is quadratic takes hours.
    CHECK(seconds([&] { tokens = tokenizer.encode(text, false, true); }) < 60);
    CHECK(tokenizer.decode(tokens, true).size() >= size);
  }
}

TEST("a text has no fewer tokens than its size says") {
  std::vector<Entry> entries = letters();
  add_bytes(entries, byte);
  const Tokenizer tokenizer = load(vocabulary(entries));
  CHECK(tokenizer.fewest_tokens(0) == 0 && tokenizer.fewest_tokens(1) == 1);
  const std::string longest = "<end_of_turn>";
  for (const std::size_t count : {1, 2, 100}) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) text += longest;
    CHECK(tokenizer.fewest_tokens(text.size()) == count && tokenizer.encode(text, false, true).size() == count);
  }
  for (const char* text :
       {"a", "abc abc", "  ", "     ", "\xFF\xE2\x96", "\u00e9\u2581\U0001F642", "<bos><eos>x", "<b"}) {
    for (const bool special : {false, true}) {
      CHECK(tokenizer.encode(text, false, special).size() >= tokenizer.fewest_tokens(std::string(text).size()));
    }
  }
  CHECK(load(vocabulary(letters())).fewest_tokens(1000) == 1);  // a run of unknown characters is one token
  CHECK(load(vocabulary(letters())).encode(std::string(1000, 'z'), false, false).size() == 1);
}

TEST("UTF-8 is scanned by the table of the standard") {
  using State = gemlet::Utf8Scan::State;
  const auto is = [](std::string_view text, State state, std::size_t size) {
    const gemlet::Utf8Scan scan = gemlet::scan_utf8(text);
    return scan.state == state && scan.size == size;
  };
  CHECK(is("a", State::complete, 1) && is(std::string_view("\0", 1), State::complete, 1));
  CHECK(is("\u00e9x", State::complete, 2) && is("\u2581", State::complete, 3) && is("\U0001F600", State::complete, 4));
  CHECK(is("\xED\x9F\xBF", State::complete, 3) && is("\xF4\x8F\xBF\xBF", State::complete, 4));
  CHECK(is("\xC3", State::truncated, 1) && is("\xE2\x96", State::truncated, 2) &&
        is("\xF0\x9F\x98", State::truncated, 3));
  CHECK(is("\x80", State::malformed, 1) && is("\xC0\x80", State::malformed, 1) && is("\xC1\xBF", State::malformed, 1));
  CHECK(is("\xE0\x9F\xBF", State::malformed, 1) && is("\xED\xA0\x80", State::malformed, 1));
  CHECK(is("\xF0\x8F\xBF\xBF", State::malformed, 1) && is("\xF4\x90\x80\x80", State::malformed, 1));
  CHECK(is("\xF5\x80", State::malformed, 1) && is("\xE2\x96x", State::malformed, 2));
  CHECK(is("\xF0\x9F\x98x", State::malformed, 3) && is("\xC3\xC3", State::malformed, 1));
}

int main() { return check::run_tests(); }
