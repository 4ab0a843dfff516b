#include "text/piece_matcher.hpp"

#include <algorithm>

namespace gemlet {

PieceMatcher::PieceMatcher(std::vector<std::pair<std::string, Token>> pieces) {
  std::erase_if(pieces, [](const auto& piece) { return piece.first.empty(); });
  for (auto& [text, token] : pieces) {
    std::reverse(text.begin(), text.end());
  }
  // std::string orders by unsigned bytes: the pieces below one node are neighbours, and its children come by label.
  std::stable_sort(pieces.begin(), pieces.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  pieces.erase(
      std::unique(pieces.begin(), pieces.end(), [](const auto& a, const auto& b) { return a.first == b.first; }),
      pieces.end());

  struct Range {
    std::size_t begin;  // of the pieces that pass through the node
    std::size_t end;
    std::size_t depth;
  };
  std::vector<Range> ranges{{0, pieces.size(), 0}};
  label_.push_back(0);
  fallback_.push_back(root);
  for (Node node = 0; node < ranges.size(); ++node) {
    auto [begin, end, depth] = ranges[node];
    std::int32_t longest = -1;
    if (begin < end && pieces[begin].first.size() == depth) {
      longest = static_cast<std::int32_t>(matches_.size());
      matches_.emplace_back(depth, pieces[begin].second);
      ++begin;
    } else if (node != root) {
      longest = longest_[fallback_[node]];  // of a shallower node, which came earlier
    }
    longest_.push_back(longest);
    first_child_.push_back(static_cast<Node>(ranges.size()));
    while (begin < end) {
      const auto byte = static_cast<unsigned char>(pieces[begin].first[depth]);
      std::size_t next = begin;
      while (next < end && static_cast<unsigned char>(pieces[next].first[depth]) == byte) {
        ++next;
      }
      ranges.push_back({begin, next, depth + 1});
      label_.push_back(byte);
      fallback_.push_back(node == root ? root : advance(fallback_[node], byte));
      begin = next;
    }
  }
  first_child_.push_back(static_cast<Node>(ranges.size()));
}

PieceMatcher::Node PieceMatcher::child(Node node, unsigned char byte) const {
  const auto begin = label_.begin() + first_child_[node];
  const auto end = label_.begin() + first_child_[node + 1];
  const auto found = std::lower_bound(begin, end, byte);
  return found != end && *found == byte ? static_cast<Node>(found - label_.begin()) : root;
}

PieceMatcher::Node PieceMatcher::advance(Node node, unsigned char byte) const {
  for (;;) {
    if (const Node next = child(node, byte); next != root || node == root) {
      return next;
    }
    node = fallback_[node];
  }
}

std::vector<PieceMatcher::Match> PieceMatcher::find(std::string_view text) const {
  std::vector<Match> found;
  if (matches_.empty()) {
    return found;
  }
  std::vector<std::int32_t> starting(text.size());  // the longest piece that starts here
  Node node = root;
  for (std::size_t i = text.size(); i-- > 0;) {
    node = advance(node, static_cast<unsigned char>(text[i]));
    starting[i] = longest_[node];
  }
  for (std::size_t i = 0; i < text.size();) {
    if (starting[i] < 0) {
      ++i;
      continue;
    }
    const auto& [size, token] = matches_[static_cast<std::size_t>(starting[i])];
    found.push_back({i, size, token});
    i += size;
  }
  return found;
}

}  // namespace gemlet
