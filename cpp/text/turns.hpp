#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "gemlet/gemlet.hpp"
#include "text/tokenizer.hpp"

namespace gemlet {

/// How a generation of the family writes a conversation down. Markup becomes control tokens by their ids and text is
/// tokenised as typed text, so that no text can pass for markup.
struct TurnFormat {
  std::string_view name;   ///< "gemma"
  std::string_view begin;  ///< the piece that opens a turn; a vocabulary that has it and `end` uses this format
  std::string_view end;
  Prompt (*prompt)(const TurnFormat& format, const Tokenizer& tokenizer, std::span<const Turn> turns,
                   const PromptOptions& options);
};

/// The format of a vocabulary's own markers, or the one of this name. Throws Error(unsupported) if the vocabulary lacks
/// the markers, and Error(argument) for a name that there is not.
const TurnFormat& turn_format(const Tokenizer& tokenizer, std::string_view name = {});

/// The prompt of a whole conversation in the vocabulary's own format, the begin-of-sequence token first. Throws
/// Error(argument) naming the turn that does not fit.
Prompt prompt_of_turns(const Tokenizer& tokenizer, std::span<const Turn> turns, const PromptOptions& options = {});

/// What stands around a picture or a sound (transformers, the processors of Gemma 3 and 3n).
inline constexpr std::string_view around_media = "\n\n";

/// Appends a picture or a sound between its marks. Throws Error(unsupported) for a vocabulary without them, and
/// Error(argument) for a medium without rows.
void append_medium(const Tokenizer& tokenizer, const Medium& medium, Prompt& prompt);

}  // namespace gemlet
