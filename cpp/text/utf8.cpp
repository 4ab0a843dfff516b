#include "text/utf8.hpp"

namespace gemlet {

Utf8Scan scan_utf8(std::string_view text) noexcept {
  using State = Utf8Scan::State;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) {
    return {State::complete, 1};
  }
  if (lead < 0xC2 || lead > 0xF4) {
    return {State::malformed, 1};
  }
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size()) {
      return {State::truncated, i};
    }
    // The second byte also rules out overlong forms (E0, F0), surrogates (ED) and what lies above U+10FFFF (F4).
    const unsigned char low = i > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = i > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (byte(i) < low || byte(i) > high) {
      return {State::malformed, i};
    }
  }
  return {State::complete, length};
}

}  // namespace gemlet
