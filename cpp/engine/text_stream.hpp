#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gemlet {

/// Turns a stream of token bytes into text that may be shown: whole UTF-8 characters only, and nothing that may yet
/// turn out to be the start of a stop string. Malformed bytes become U+FFFD, as Python's errors="replace" does.
class TextStream {
 public:
  explicit TextStream(std::vector<std::string> stop);

  /// Returns the text that became certain.
  std::string push(std::string_view bytes);
  bool stopped() const { return stopped_; }
  /// What was held back, when no more tokens come.
  std::string finish();

 private:
  std::vector<std::string> stop_;
  std::string pending_bytes_;  // an unfinished UTF-8 character
  std::string pending_text_;   // a possible start of a stop string
  bool stopped_ = false;
};

}  // namespace gemlet
