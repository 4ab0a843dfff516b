#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/gguf.hpp"
#include "gemlet/gemlet.hpp"

namespace gemlet {

/// SentencePiece BPE from a GGUF vocabulary. `tokenizer.ggml.model` = "llama" merges by score, as the sentencepiece
/// library does; the kinds that carry `tokenizer.ggml.merges` merge by rank, as the `tokenizers` library does for
/// Gemma. Both fall back to byte tokens. Copies what it needs: the file may be closed afterwards.
class Tokenizer {
 public:
  explicit Tokenizer(const GgufFile& file);
  ~Tokenizer();

  int vocabulary() const;
  std::vector<Token> encode(std::string_view text, bool bos, bool special) const;
  /// Appends the tokens of a text that somebody typed. None is a control token or a marker: what looks like one is cut
  /// after its first character, so that not even a user-defined piece comes of it.
  void append_typed(std::string_view text, std::vector<Token>& tokens) const;
  /// A text of so many bytes has at least this many tokens.
  std::size_t fewest_tokens(std::size_t bytes) const;
  std::string decode(std::span<const Token> tokens, bool special) const;
  /// The bytes of one token in running text, the dummy prefix aside; empty for control tokens unless `special`.
  void append_bytes(Token token, bool special, std::string& out) const;
  std::string_view piece(Token token) const;
  TokenKind kind(Token token) const;
  std::optional<Token> find(std::string_view piece) const;
  Token bos() const;
  bool is_end(Token token) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gemlet
