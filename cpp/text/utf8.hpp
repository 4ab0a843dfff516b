#pragma once

#include <cstddef>
#include <string_view>

namespace gemlet {

inline constexpr std::string_view replacement_character = "\xEF\xBF\xBD";  // U+FFFD

/// The first character of a text.
struct Utf8Scan {
  enum class State {
    complete,   ///< `size` bytes are one well-formed character
    truncated,  ///< the text ends inside a character that is well-formed so far
    malformed,  ///< no character starts with the first `size` bytes and what follows them
  };
  State state;
  /// For `malformed`, the maximal subpart (Unicode 15, 3.9, U+FFFD substitution): what Python replaces by one U+FFFD.
  std::size_t size;
};

/// `text` is not empty. Well-formed as in Unicode 15, table 3-7: no overlong forms, no surrogates, at most U+10FFFF.
Utf8Scan scan_utf8(std::string_view text) noexcept;

}  // namespace gemlet
