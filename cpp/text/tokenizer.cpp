#include "text/tokenizer.hpp"

#include <algorithm>

#include "text/bpe.hpp"
#include "text/utf8.hpp"
#include "text/vocabulary.hpp"

namespace gemlet {
namespace {

constexpr std::string_view unknown_text = " \xE2\x81\x87 ";  // what sentencepiece prints

/// Every byte that is not part of a well-formed character becomes U+FFFD, as in sentencepiece's normaliser. Byte tokens
/// for the bytes as they are would come back unchanged from decode(), but the model has never seen them in training.
std::string repair_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const auto [state, size] = scan_utf8(text);
    const bool complete = state == Utf8Scan::State::complete;
    result += complete ? text.substr(0, size) : replacement_character;
    text.remove_prefix(complete ? size : 1);
  }
  return result;
}

}  // namespace

struct Tokenizer::Impl {
  explicit Impl(const GgufFile& file) : vocabulary(file) {}

  void check(Token token) const {
    if (token < 0 || token >= vocabulary.size()) {
      throw Error(Error::Kind::argument, "token " + std::to_string(token) + " is outside the vocabulary of " +
                                             std::to_string(vocabulary.size()));
    }
  }

  std::string normalize(std::string_view text) const {
    return vocabulary.by_score() ? escape_spaces(repair_utf8(text)) : repair_utf8(text);
  }

  /// Text between control tokens is encoded as the reference library encodes a text by itself.
  void encode_segment(std::string_view text, std::vector<Token>& tokens) const {
    if (text.empty()) {
      return;
    }
    if (vocabulary.space_prefix()) {
      encode_plain(vocabulary, std::string(space_symbol) += text, tokens);
    } else {
      encode_plain(vocabulary, text, tokens);
    }
  }

  /// Guarded pieces are cut after their first character, and so are those within what is left of them.
  void encode_typed(std::string_view text, std::vector<Token>& tokens) const {
    struct Part {
      std::string_view text;
      bool plain;
    };
    std::vector<Part> rest{{text, false}};  // from the last to the first
    while (!rest.empty()) {
      const Part part = rest.back();
      rest.pop_back();
      if (part.plain) {
        encode_segment(part.text, tokens);
        continue;
      }
      const std::size_t end = rest.size();
      std::size_t consumed = 0;
      for (const PieceMatcher::Match& match : vocabulary.guarded().find(part.text)) {
        const std::string_view piece = part.text.substr(match.begin, match.size);
        const std::size_t first_character = scan_utf8(piece).size;
        rest.push_back({part.text.substr(consumed, match.begin - consumed), true});
        rest.push_back({piece.substr(0, first_character), true});
        rest.push_back({piece.substr(first_character), false});
        consumed = match.begin + match.size;
      }
      rest.push_back({part.text.substr(consumed), true});
      std::reverse(rest.begin() + static_cast<std::ptrdiff_t>(end), rest.end());
    }
  }

  void append_bytes(Token token, bool special, bool strip_prefix, std::string& out) const {
    std::string_view piece = vocabulary.piece(token);
    switch (vocabulary.kind(token)) {
      case TokenKind::control:
        out += special ? piece : "";
        return;
      case TokenKind::unknown:
        out += unknown_text;
        return;
      case TokenKind::byte:
        out += static_cast<char>(vocabulary.byte_value(token));
        return;
      case TokenKind::normal:
      case TokenKind::user_defined:
      case TokenKind::unused:
        if (strip_prefix && piece.starts_with(space_symbol)) {
          piece.remove_prefix(space_symbol.size());
        }
        out += unescape_spaces(piece);
        return;
    }
  }

  Vocabulary vocabulary;
};

Tokenizer::Tokenizer(const GgufFile& file) : impl_(std::make_unique<Impl>(file)) {}

Tokenizer::~Tokenizer() = default;

int Tokenizer::vocabulary() const { return impl_->vocabulary.size(); }

std::vector<Token> Tokenizer::encode(std::string_view text, bool bos, bool special) const {
  const Vocabulary& vocabulary = impl_->vocabulary;
  std::vector<Token> tokens;
  if (bos) {
    tokens.push_back(vocabulary.bos());
  }
  const std::string normalized = impl_->normalize(text);
  std::string_view rest = normalized;
  if (special) {
    std::size_t consumed = 0;
    for (const PieceMatcher::Match& match : vocabulary.special().find(normalized)) {
      if (vocabulary.kind(match.token) != TokenKind::control) {
        continue;  // a user-defined piece, which encode_segment() finds again
      }
      impl_->encode_segment(rest.substr(0, match.begin - consumed), tokens);
      tokens.push_back(match.token);
      consumed = match.begin + match.size;
      rest = std::string_view(normalized).substr(consumed);
    }
  }
  impl_->encode_segment(rest, tokens);
  return tokens;
}

void Tokenizer::append_typed(std::string_view text, std::vector<Token>& tokens) const {
  impl_->encode_typed(impl_->normalize(text), tokens);
}

std::size_t Tokenizer::fewest_tokens(std::size_t bytes) const { return impl_->vocabulary.fewest_tokens(bytes); }

std::string Tokenizer::decode(std::span<const Token> tokens, bool special) const {
  std::string text;
  bool at_start = impl_->vocabulary.space_prefix();
  for (const Token token : tokens) {
    impl_->check(token);
    impl_->append_bytes(token, special, at_start, text);
    at_start = at_start && impl_->vocabulary.kind(token) == TokenKind::control;
  }
  return text;
}

void Tokenizer::append_bytes(Token token, bool special, std::string& out) const {
  impl_->check(token);
  impl_->append_bytes(token, special, false, out);
}

std::string_view Tokenizer::piece(Token token) const {
  impl_->check(token);
  return impl_->vocabulary.piece(token);
}

TokenKind Tokenizer::kind(Token token) const {
  impl_->check(token);
  return impl_->vocabulary.kind(token);
}

std::optional<Token> Tokenizer::find(std::string_view piece) const { return impl_->vocabulary.find(piece); }

Token Tokenizer::bos() const { return impl_->vocabulary.bos(); }

bool Tokenizer::is_end(Token token) const { return impl_->vocabulary.is_end(token); }

}  // namespace gemlet
