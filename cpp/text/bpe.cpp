#include "text/bpe.hpp"

#include <algorithm>
#include <limits>
#include <queue>
#include <string>
#include <unordered_map>
#include <utility>

#include "text/utf8.hpp"

namespace gemlet {
namespace {

/// One text while its characters are merged into pieces, always the pair of the lowest rank, the leftmost of equals:
/// O(n log n). Follows sentencepiece's bpe::Model for merges by score, and tokenizers' BPE for merges by rules.
class Bpe {
 public:
  Bpe(const Vocabulary& vocabulary, std::string_view text) : vocabulary_(vocabulary), text_(text) {}

  void encode(std::vector<Token>& tokens) {
    split();
    merge();
    for (int i = symbols_.empty() ? none : 0; i != none; i = symbols_[i].next) {
      emit(symbols_[i].part, tokens);
    }
  }

 private:
  static constexpr int none = -1;

  struct Part {
    int begin;
    int size;     // bytes; 0: merged into the symbol before it
    Token token;  // no_token: no piece
  };
  struct Symbol {
    Part part;
    int previous;
    int next;
    bool frozen;  // a user-defined piece: takes no part in merges
  };
  struct Candidate {
    std::uint32_t rank;
    int left;
    int size;  // of both halves: a candidate is out of date if the symbols have changed since
    Token token;

    bool operator<(const Candidate& other) const {  // std::priority_queue gives the greatest first
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };

  std::string_view bytes(const Part& part) const {
    return text_.substr(static_cast<std::size_t>(part.begin), static_cast<std::size_t>(part.size));
  }

  void add_symbol(std::size_t begin, std::size_t size, Token token, bool frozen) {
    const int i = static_cast<int>(symbols_.size());
    if (i > 0) {
      symbols_.back().next = i;
    }
    symbols_.push_back({{static_cast<int>(begin), static_cast<int>(size), token}, i - 1, none, frozen});
  }

  void split() {
    std::size_t position = 0;
    const auto split_characters = [&](std::size_t end) {
      while (position < end) {
        const std::size_t size = scan_utf8(text_.substr(position, end - position)).size;
        add_symbol(position, size, vocabulary_.find_text(text_.substr(position, size)), false);
        position += size;
      }
    };
    for (const PieceMatcher::Match& match : vocabulary_.user_defined().find(text_)) {
      split_characters(match.begin);
      add_symbol(match.begin, match.size, match.token, true);
      position = match.begin + match.size;
    }
    split_characters(text_.size());
  }

  void consider(int left) {
    if (left == none || symbols_[left].next == none) {
      return;
    }
    const Symbol& a = symbols_[left];
    const Symbol& b = symbols_[a.next];
    if (a.frozen || b.frozen) {
      return;
    }
    const Part whole{a.part.begin, a.part.size + b.part.size, no_token};
    if (vocabulary_.by_score()) {
      const Token token = vocabulary_.find_text(bytes(whole));
      if (token == no_token) {
        return;
      }
      agenda_.push({vocabulary_.score_rank(token), left, whole.size, token});
      if (vocabulary_.kind(token) == TokenKind::unused) {
        halves_[token] = {a.part, b.part};
      }
    } else if (a.part.token != no_token && b.part.token != no_token) {
      const auto [rank, token] = vocabulary_.find_merge(a.part.token, b.part.token);
      if (token != no_token) {
        agenda_.push({rank, left, whole.size, token});
      }
    }
  }

  void merge() {
    for (int i = 0; i < static_cast<int>(symbols_.size()); ++i) {
      consider(i);
    }
    while (!agenda_.empty()) {
      const Candidate best = agenda_.top();
      agenda_.pop();
      Symbol& left = symbols_[best.left];
      if (left.part.size == 0 || left.next == none || left.part.size + symbols_[left.next].part.size != best.size) {
        continue;
      }
      Symbol& right = symbols_[left.next];
      left.part.size = best.size;
      left.part.token = best.token;
      left.next = right.next;
      right.part.size = 0;
      if (left.next != none) {
        symbols_[left.next].previous = best.left;
      }
      consider(left.previous);
      consider(best.left);
    }
  }

  void emit(const Part& part, std::vector<Token>& tokens) {
    // sentencepiece lets unused pieces lead to longer ones, and takes those that are left over apart again: into the
    // halves of the last pair in the text that made the piece, wherever it stood. A character is unknown then.
    rest_.push_back(part);
    while (!rest_.empty()) {
      const Part last = rest_.back();
      rest_.pop_back();
      if (const auto found = halves_.find(last.token); found != halves_.end()) {
        rest_.push_back(found->second.second);
        rest_.push_back(found->second.first);
      } else if (last.token == no_token ||
                 (vocabulary_.by_score() && vocabulary_.kind(last.token) == TokenKind::unused)) {
        emit_bytes(bytes(last), tokens);
      } else {
        tokens.push_back(last.token);
        after_unknown_ = false;
      }
    }
  }

  void emit_bytes(std::string_view bytes, std::vector<Token>& tokens) {
    const auto byte_token = [&](char c) { return vocabulary_.byte_token(static_cast<unsigned char>(c)); };
    if (std::all_of(bytes.begin(), bytes.end(), [&](char c) { return byte_token(c) != no_token; })) {
      std::transform(bytes.begin(), bytes.end(), std::back_inserter(tokens), byte_token);
      after_unknown_ = false;
      return;
    }
    if (vocabulary_.unknown() == no_token) {
      throw Error(Error::Kind::argument, "\"" + std::string(bytes) +
                                             "\" has no token: the vocabulary has neither the byte tokens for it nor "
                                             "an unknown token");
    }
    if (!after_unknown_) {  // a run of unknown characters is one unknown token
      tokens.push_back(vocabulary_.unknown());
    }
    after_unknown_ = true;
  }

  const Vocabulary& vocabulary_;
  std::string_view text_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate> agenda_;
  std::unordered_map<Token, std::pair<Part, Part>> halves_;  // of the unused pieces
  std::vector<Part> rest_;                                   // emit()'s stack
  bool after_unknown_ = false;
};

}  // namespace

void encode_plain(const Vocabulary& vocabulary, std::string_view text, std::vector<Token>& tokens) {
  if (text.size() > std::numeric_limits<int>::max()) {
    throw Error(Error::Kind::argument,
                "the text has " + std::to_string(text.size()) + " bytes, expected at most 2147483647");
  }
  Bpe(vocabulary, text).encode(tokens);
}

}  // namespace gemlet
