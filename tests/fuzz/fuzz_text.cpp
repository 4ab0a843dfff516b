#include <array>
#include <optional>
#include <string>
#include <vector>

#include "format/gguf.hpp"
#include "fuzz_input.hpp"
#include "gemlet/error.hpp"
#include "text/markers.hpp"
#include "text/text_stream.hpp"
#include "text/tokenizer.hpp"
#include "text/turns.hpp"
#include "text/utf8.hpp"
#include "tiny_model.hpp"

// Any bytes as text. It comes back from the tokenizer, no control token comes of what somebody typed, turns have the
// markup of their roles whatever is said in them, and streamed text ends before the same stop string however the stream
// was cut.
namespace {

using Tokens = std::vector<gemlet::Token>;

enum Kind : std::size_t { by_score, with_space_prefix, by_merges, kinds };

gemlet::Tokenizer make_tokenizer(Kind kind) {
  gguf::Builder file;
  file.add_string("general.architecture", "gemma3");
  tiny::add_tokenizer(file);
  gguf::Pair& pieces = file.pair("tokenizer.ggml.tokens");
  gguf::Pair& types = file.pair("tokenizer.ggml.token_type");
  gguf::Pair& scores = file.pair("tokenizer.ggml.scores");
  // Markers that files type as they like, and a piece that a marker may be hidden in.
  for (const char* piece : {"<start_of_image>", "<|turn>", "<", "<s", "\u2581<", "wor"}) {
    pieces.strings.emplace_back(piece);
    types.payload += gguf::to_bytes(std::int32_t{pieces.strings.size() % 2 == 0 ? 1 : 4});
    scores.payload += gguf::to_bytes(-static_cast<float>(pieces.strings.size()));
  }
  types.count = scores.count = pieces.strings.size();
  file.pair("tokenizer.ggml.add_space_prefix").payload[0] = kind == with_space_prefix ? 1 : 0;
  if (kind == by_merges) {
    file.pair("tokenizer.ggml.model").payload = "gemma4";
    file.add_strings("tokenizer.ggml.merges", {"h e", "l l", "he ll", "hell o", "o r", "l d", "w or"});
  }
  const gguf::TemporaryDirectory directory;
  return gemlet::Tokenizer(gemlet::GgufFile(directory.write("vocabulary.gguf", file.build().bytes)));
}

const gemlet::Tokenizer& tokenizer_of(std::size_t kind) {
  static const std::array<gemlet::Tokenizer, kinds> all = {make_tokenizer(by_score), make_tokenizer(with_space_prefix),
                                                           make_tokenizer(by_merges)};
  return all[kind];
}

/// U+FFFD for each byte that is not UTF-8, or for each maximal subpart of a character, as a stream writes them.
std::string repaired(std::string_view text, bool each_byte) {
  std::string out;
  while (!text.empty()) {
    const auto [state, size] = gemlet::scan_utf8(text);
    const bool complete = state == gemlet::Utf8Scan::State::complete;
    out += complete ? text.substr(0, size) : gemlet::replacement_character;
    text.remove_prefix(!complete && each_byte ? 1 : size);
  }
  return out;
}

/// What the tokenizer gives back: U+2581 is its space.
std::string expected_text(std::string_view text) {
  std::string out = repaired(text, true);
  constexpr std::string_view symbol = "\u2581";
  for (std::size_t at = 0; (at = out.find(symbol, at)) != std::string::npos;) out.replace(at, symbol.size(), " ");
  return out;
}

Tokens guarded(const gemlet::Tokenizer& tokenizer, const Tokens& tokens) {
  Tokens out;
  for (const gemlet::Token token : tokens) {
    if (gemlet::is_guarded(tokenizer.piece(token), tokenizer.kind(token))) out.push_back(token);
  }
  return out;
}

void check_round_trip(const gemlet::Tokenizer& tokenizer, std::size_t kind, const std::string& text) {
  const std::string expected = expected_text(text);
  const Tokens plain = tokenizer.encode(text, false, false);
  for (const gemlet::Token token : plain) {
    fuzz::expect(tokenizer.kind(token) != gemlet::TokenKind::control, "plain text has no control tokens");
  }
  fuzz::expect(tokenizer.decode(plain, true) == expected, "plain text comes back");
  Tokens typed;
  tokenizer.append_typed(text, typed);
  fuzz::expect(guarded(tokenizer, typed).empty(), "typed text has no control tokens or markers");
  const Tokens special = tokenizer.encode(text, true, true);
  fuzz::expect(special.at(0) == tokenizer.bos(), "the begin-of-sequence token comes first");
  if (kind == with_space_prefix) return;  // a space begins every piece of text between two control tokens
  fuzz::expect(tokenizer.decode(typed, true) == expected, "typed text comes back");
  fuzz::expect(tokenizer.decode(std::span(special).subspan(1), true) == expected,
               "text with control tokens comes back");
}

void check_turns(const gemlet::Tokenizer& tokenizer, fuzz::Input& input) {
  std::vector<gemlet::Turn> said;
  for (std::size_t count = input.below(5); count > 0; --count) {
    const auto role = static_cast<gemlet::Role>(input.below(3));
    said.push_back({role, input.text()});
  }
  const gemlet::PromptOptions options{.end = static_cast<gemlet::PromptEnd>(input.below(3))};
  std::vector<gemlet::Turn> other = said;
  for (gemlet::Turn& turn : other) turn.text = "x";
  std::optional<Tokens> prompts[2];
  for (std::size_t i = 0; i < 2; ++i) {
    try {
      prompts[i] = gemlet::prompt_of_turns(tokenizer, i == 0 ? said : other, options).tokens;
    } catch (const gemlet::Error&) {
    }
  }
  fuzz::expect(prompts[0].has_value() == prompts[1].has_value(), "whether turns fit depends on their roles alone");
  if (!prompts[0]) return;
  fuzz::expect(guarded(tokenizer, *prompts[0]) == guarded(tokenizer, *prompts[1]), "no text passes for markup");
}

struct Streamed {
  std::string text;
  bool stopped;
  bool operator==(const Streamed&) const = default;
};

/// By the definition: character by character, until the text so far ends with a stop string.
Streamed expected_stream(const std::string& bytes, const std::vector<std::string>& stops) {
  const std::string text = repaired(bytes, false);
  for (std::size_t end = 0; end < text.size();) {
    end += gemlet::scan_utf8(std::string_view(text).substr(end)).size;
    const std::string_view so_far = std::string_view(text).substr(0, end);
    std::size_t longest = 0;
    for (const std::string& stop : stops) {
      if (so_far.ends_with(stop)) longest = std::max(longest, stop.size());
    }
    if (longest > 0) return {text.substr(0, end - longest), true};
  }
  return {text, false};
}

void check_stream(fuzz::Input& input, const std::vector<std::size_t>& cuts, const std::string& bytes) {
  std::vector<std::string> stops;
  for (std::size_t count = input.below(4); count > 0; --count) stops.push_back(input.text());
  try {
    gemlet::TextStream stream(stops);
    Streamed found{{}, false};
    std::string_view rest = bytes;
    for (std::size_t i = 0; !rest.empty(); ++i) {
      const std::size_t length = cuts.empty() ? rest.size() : std::min(rest.size(), cuts[i % cuts.size()]);
      const std::string piece = stream.push(rest.substr(0, length));
      fuzz::expect(repaired(piece, false) == piece, "pieces are whole characters");
      found.text += piece;
      rest.remove_prefix(length);
    }
    found.text += stream.finish();
    found.stopped = stream.stopped();
    fuzz::expect(found == expected_stream(bytes, stops), "text ends before the first stop string");
  } catch (const gemlet::Error& error) {
    fuzz::expect(error.kind() == gemlet::Error::Kind::argument, error.what());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const std::size_t kind = input.below(kinds);
  std::vector<std::size_t> cuts;
  for (std::size_t count = input.below(4); count > 0; --count) cuts.push_back(1 + input.below(16));
  const std::string streamed = input.text();
  check_stream(input, cuts, streamed);
  check_turns(tokenizer_of(kind), input);
  check_round_trip(tokenizer_of(kind), kind, input.rest());
  return 0;
}
