#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/gguf.hpp"
#include "gemlet/gemlet.hpp"
#include "text/piece_matcher.hpp"

namespace gemlet {

/// U+2581, which stands for a space in pieces.
inline constexpr std::string_view space_symbol = "\xE2\x96\x81";
inline constexpr Token no_token = -1;

std::string escape_spaces(std::string_view text);    // ' ' to U+2581
std::string unescape_spaces(std::string_view text);  // U+2581 to ' '

/// The tokens of a GGUF file and what the file says about joining them. Checks everything that the encoder relies on:
/// arrays of one length, known token types, ids inside the vocabulary. Throws Error naming the file and the key.
class Vocabulary {
 public:
  /// Two pieces that stand side by side in a text become one; of all such pairs the one with the lowest rank first.
  struct Merge {
    std::uint32_t rank;
    Token token;
  };

  explicit Vocabulary(const GgufFile& file);

  int size() const { return static_cast<int>(kinds_.size()); }
  std::string_view piece(Token token) const;
  TokenKind kind(Token token) const { return kinds_[static_cast<std::size_t>(token)]; }
  /// For a byte token.
  unsigned char byte_value(Token token) const;

  /// By piece, spaces and U+2581 being the same. Of equal pieces, those that plain text may become come first, then
  /// the lowest id.
  std::optional<Token> find(std::string_view piece) const;
  /// The same, for plain text: never a control, byte or unknown token. no_token if there is none.
  Token find_text(std::string_view piece) const;
  Token byte_token(unsigned char byte) const { return byte_tokens_[byte]; }

  /// Whether pairs merge by the scores of the pieces they make (any pair that makes a piece), or by a list of rules.
  bool by_score() const { return by_score_; }
  /// by_score(): the rank of the piece that a merge makes.
  std::uint32_t score_rank(Token token) const { return score_ranks_[static_cast<std::size_t>(token)]; }
  /// Otherwise: the rule for a pair, or {_, no_token}.
  Merge find_merge(Token left, Token right) const;
  /// A text of so many bytes has at least this many tokens.
  std::size_t fewest_tokens(std::size_t bytes) const;

  // To be found in text in which spaces are escaped if by_score(), and are as they are otherwise: each as its library
  // does.
  const PieceMatcher& user_defined() const { return user_defined_; }
  const PieceMatcher& special() const { return special_; }  // user-defined and control
  /// What must not become one token in a text that somebody typed (is_guarded()).
  const PieceMatcher& guarded() const { return guarded_; }

  bool space_prefix() const { return space_prefix_; }
  Token bos() const { return bos_; }
  Token unknown() const { return unknown_; }
  bool is_end(Token token) const;

 private:
  void read_pieces(const GgufFile& file);
  void read_kinds(const GgufFile& file);
  void read_scores(const GgufFile& file);
  void read_merges(const GgufFile& file);
  void read_special_ids(const GgufFile& file);
  void index_pieces();
  void infer_byte_kinds();
  template <typename Wanted>
  PieceMatcher match_tokens(Wanted wanted) const;
  Token lookup(std::string_view piece) const;

  std::string pieces_;             // one after the other
  std::vector<std::size_t> ends_;  // of each piece in pieces_
  std::vector<TokenKind> kinds_;
  std::size_t longest_piece_ = 0;
  bool by_score_ = true;
  bool space_prefix_ = false;
  Token bos_ = no_token;
  Token unknown_ = no_token;
  std::vector<Token> ends_of_text_;
  std::array<Token, 256> byte_tokens_;

  // Open addressing, at most half full: a vocabulary has 262,400 pieces and 514,906 merges, and node-based maps of
  // them would take 60 MB.
  struct Rule {
    std::uint64_t pair;
    Merge merge;
  };
  std::vector<Token> index_;
  std::vector<Rule> rules_;
  std::vector<std::uint32_t> score_ranks_;

  PieceMatcher user_defined_;
  PieceMatcher special_;
  PieceMatcher guarded_;
};

}  // namespace gemlet
