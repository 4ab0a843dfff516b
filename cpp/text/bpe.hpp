#pragma once

#include <string_view>
#include <vector>

#include "text/vocabulary.hpp"

namespace gemlet {

/// Appends the tokens of plain well-formed UTF-8, in which only user-defined pieces have a meaning of their own.
/// Throws Error(argument) if a character is no piece and the vocabulary has neither byte tokens nor an unknown token.
void encode_plain(const Vocabulary& vocabulary, std::string_view text, std::vector<Token>& tokens);

}  // namespace gemlet
