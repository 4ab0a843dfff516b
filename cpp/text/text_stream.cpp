#include "text/text_stream.hpp"

#include <algorithm>
#include <utility>

#include "gemlet/error.hpp"
#include "text/utf8.hpp"

namespace gemlet {
namespace {

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const auto [state, size] = scan_utf8(text);
    if (state != Utf8Scan::State::complete) return false;
    text.remove_prefix(size);
  }
  return true;
}

}  // namespace

TextStream::TextStream(const std::vector<std::string>& stop) {
  for (std::size_t i = 0; i < stop.size(); ++i) {
    if (stop[i].empty() || !is_utf8(stop[i])) {
      throw Error(Error::Kind::argument, "stop string " + std::to_string(i) + " is " +
                                             (stop[i].empty() ? "empty" : "not UTF-8") +
                                             ", expected text of at least one character");
    }
    Stop& added = stops_.emplace_back(Stop{stop[i], {0, 0}});
    for (std::size_t k = 1; k < added.text.size(); ++k) {
      added.matched = added.border[k];
      added.advance(added.text[k]);
      added.border.push_back(added.matched);
    }
    added.matched = 0;
  }
}

void TextStream::Stop::advance(char byte) {
  while (matched > 0 && text[matched] != byte) matched = border[matched];
  if (text[matched] == byte) ++matched;
}

void TextStream::accept(std::string_view character) {
  pending_text_ += character;
  std::size_t longest = 0;
  for (Stop& stop : stops_) {
    for (const char byte : character) stop.advance(byte);
    if (stop.matched == stop.text.size()) longest = std::max(longest, stop.matched);
  }
  if (longest > 0) {
    stopped_ = true;
    pending_text_.erase(pending_text_.size() - longest);
  }
}

std::string TextStream::push(std::string_view bytes) {
  if (stopped_) return {};
  std::string joined = std::exchange(pending_bytes_, {});
  joined += bytes;
  for (std::string_view rest = joined; !rest.empty() && !stopped_;) {
    const auto [state, size] = scan_utf8(rest);
    if (state == Utf8Scan::State::truncated) {
      pending_bytes_ = rest;
      break;
    }
    accept(state == Utf8Scan::State::complete ? rest.substr(0, size) : replacement_character);
    rest.remove_prefix(size);
  }
  std::size_t held = 0;
  if (!stopped_) {
    for (const Stop& stop : stops_) held = std::max(held, stop.matched);
  }
  const std::size_t certain = pending_text_.size() - held;
  std::string shown = pending_text_.substr(shown_, certain - shown_);
  shown_ = certain;
  if (shown_ > pending_text_.size() / 2) {  // not each time: a long stop string would make it quadratic
    pending_text_.erase(0, std::exchange(shown_, 0));
  }
  return shown;
}

std::string TextStream::finish() {
  if (!std::exchange(pending_bytes_, {}).empty() && !stopped_) accept(replacement_character);
  return std::exchange(pending_text_, {}).substr(std::exchange(shown_, 0));
}

}  // namespace gemlet
