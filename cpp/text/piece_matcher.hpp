#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gemlet/gemlet.hpp"

namespace gemlet {

/// Finds the pieces that stand for themselves in a text (control and user-defined tokens), from left to right and the
/// longest at each place. Time is linear in the text whatever the pieces: an Aho-Corasick automaton over the reversed
/// pieces runs from the end of the text to its start, and so knows the longest piece that starts at each position.
class PieceMatcher {
 public:
  struct Match {
    std::size_t begin;
    std::size_t size;
    Token token;
  };

  PieceMatcher() = default;  ///< of no pieces
  /// Among equal pieces the first counts; empty ones are ignored.
  explicit PieceMatcher(std::vector<std::pair<std::string, Token>> pieces);

  /// In order, without overlaps.
  std::vector<Match> find(std::string_view text) const;

 private:
  using Node = std::uint32_t;
  static constexpr Node root = 0;

  /// The node's child for a byte, or root if it has none (the root is nobody's child).
  Node child(Node node, unsigned char byte) const;
  Node advance(Node node, unsigned char byte) const;

  // The trie, breadth first, so that the children of node n are first_child_[n] .. first_child_[n + 1] - 1, by label.
  std::vector<unsigned char> label_;
  std::vector<Node> first_child_;
  std::vector<Node> fallback_;         // the longest proper suffix of the node's string that is in the trie
  std::vector<std::int32_t> longest_;  // index into matches_ of the longest piece that is a suffix; -1: none
  std::vector<std::pair<std::size_t, Token>> matches_;  // size and token of each piece
};

}  // namespace gemlet
