#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace gemlet {

/// Turns a stream of token bytes into text that may be shown: whole UTF-8 characters only, and nothing that may yet
/// turn out to be the start of a stop string. Malformed bytes become U+FFFD, as Python's errors="replace" does.
/// The text ends before the stop string that is complete first, the longest of several that end together; where the
/// stream was cut into tokens makes no difference. Time is linear in the text for each stop string.
class TextStream {
 public:
  /// Throws Error(argument) for a stop string that is empty or not UTF-8.
  explicit TextStream(const std::vector<std::string>& stop);

  /// Returns the text that became certain.
  std::string push(std::string_view bytes);
  bool stopped() const { return stopped_; }
  /// What was held back, when no more tokens come.
  std::string finish();

 private:
  /// Knuth, Morris and Pratt's automaton of one stop string.
  struct Stop {
    std::string text;
    std::vector<std::size_t> border;  // of each prefix: its longest proper prefix that is also its suffix
    std::size_t matched = 0;          // bytes of the stop string that the text so far ends with

    void advance(char byte);
  };

  void accept(std::string_view character);

  std::vector<Stop> stops_;
  std::string pending_bytes_;  // an unfinished UTF-8 character
  std::string pending_text_;   // shown up to shown_, and a possible start of a stop string
  std::size_t shown_ = 0;
  bool stopped_ = false;
};

}  // namespace gemlet
