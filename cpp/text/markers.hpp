#pragma once

#include <optional>
#include <string_view>

#include "gemlet/gemlet.hpp"

namespace gemlet {

/// A token that the Gemma family's models give a meaning beyond its text: it opens or closes turns, calls of tools,
/// thoughts or media. Files type some of them wrongly or not at all.
struct Marker {
  std::string_view piece;
  TokenKind kind;  ///< control: never shown; user_defined: shown as text, since what it encloses is part of the answer
  bool ends_answer = false;
};

/// The family's marker with this piece; null if it is none.
const Marker* find_marker(std::string_view piece);

/// What kind a token of this piece is: the kind that the file says, unless that makes a marker an ordinary piece.
TokenKind corrected_kind(std::string_view piece, TokenKind stored);

/// Whether nothing that somebody types may become this token: control tokens, the unknown token and markers.
bool is_guarded(std::string_view piece, TokenKind kind);

}  // namespace gemlet
