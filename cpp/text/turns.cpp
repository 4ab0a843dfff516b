#include "text/turns.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>

#include "gemlet/error.hpp"

namespace gemlet {
namespace {

/// Characters that templates trim, which are those of Python's str.strip(), in UTF-8.
constexpr auto white_space = std::to_array<std::string_view>({
    "\t",           "\n",           "\v",           "\f",           "\r",
    "\x1c",         "\x1d",         "\x1e",         "\x1f",         " ",
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81",
    "\xE2\x80\x82", "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86",
    "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8",
    "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80",
});

std::string_view trim(std::string_view text) {
  const auto find = [](const auto& matches) { return std::ranges::find_if(white_space, matches); };
  for (;;) {
    const auto* found = find([&](std::string_view space) { return text.starts_with(space); });
    if (found == white_space.end()) break;
    text.remove_prefix(found->size());
  }
  for (;;) {
    const auto* found = find([&](std::string_view space) { return text.ends_with(space); });
    if (found == white_space.end()) break;
    text.remove_suffix(found->size());
  }
  return text;
}

std::string_view role_name(Role role) {
  switch (role) {
    case Role::system:
      return "system";
    case Role::user:
      return "user";
    case Role::model:
      return "model";
  }
  return "";
}

/// Stands in the places of media: the padding token, which is in all vocabularies and whose per-layer embeddings are
/// those of media.
constexpr Token placeholder = 0;

[[noreturn]] void reject(std::span<const Turn> turns, std::size_t index, const std::string& why) {
  throw Error(Error::Kind::argument,
              "turn " + std::to_string(index) + " (" + std::string(role_name(turns[index].role)) + "): " + why);
}

/// A system turn first if at all, then the user and the model in turns.
void check_order(std::span<const Turn> turns, PromptEnd end) {
  if (turns.empty()) throw Error(Error::Kind::argument, "there are no turns, expected at least the user's");
  const std::size_t first = turns[0].role == Role::system ? 1 : 0;
  for (std::size_t i = first; i < turns.size(); ++i) {
    if (turns[i].role == Role::system) reject(turns, i, "a system turn has to be the first one");
    const Role expected = (i - first) % 2 == 0 ? Role::user : Role::model;
    if (turns[i].role != expected) {
      reject(turns, i,
             "expected a " + std::string(role_name(expected)) +
                 " turn, since user and model take turns and the user begins");
    }
  }
  if (first == turns.size()) reject(turns, 0, "stands alone, expected a user turn after it");
  if (end == PromptEnd::open_answer && turns.back().role != Role::model) {
    reject(turns, turns.size() - 1, "cannot be left open, expected the last turn to be the model's");
  }
}

void check_contents(const Tokenizer& tokenizer, std::span<const Turn> turns) {
  for (std::size_t i = 0; i < turns.size(); ++i) {
    if (!turns[i].parts.empty()) {
      if (turns[i].role != Role::user) reject(turns, i, "has parts, which only a user's turn may have");
      if (!turns[i].text.empty()) reject(turns, i, "has a text and parts, expected one of them");
    }
    if (turns[i].tokens.empty()) continue;
    if (turns[i].role != Role::model) reject(turns, i, "has tokens, which only a model turn may have");
    for (const Token token : turns[i].tokens) {
      if (token < 0 || token >= tokenizer.vocabulary()) {
        reject(turns, i,
               "token " + std::to_string(token) + " is outside the vocabulary of " +
                   std::to_string(tokenizer.vocabulary()));
      }
    }
  }
}

/// Gemma 1 to 3n. As in the published templates, texts are trimmed and the system text, which is not, goes in front of
/// the first user text.
Prompt prompt_gemma(const TurnFormat& format, const Tokenizer& tokenizer, std::span<const Turn> turns,
                    const PromptOptions& options) {
  const PromptEnd end = options.end;
  check_order(turns, end);
  check_contents(tokenizer, turns);
  const Token begin_turn = *tokenizer.find(format.begin);
  const Token end_turn = *tokenizer.find(format.end);

  Prompt prompt{tokenizer.bos()};
  std::vector<Token>& tokens = prompt.tokens;
  std::string system;
  for (const Turn& turn : turns) {
    if (turn.role == Role::system) {
      system = turn.text + "\n\n";
      continue;
    }
    tokens.push_back(begin_turn);
    // One text, since the reference tokenises as one whatever stands between two control tokens.
    std::string text = std::string(role_name(turn.role)) + "\n" + std::exchange(system, {});
    if (turn.tokens.empty()) text += trim(turn.text);
    for (const TurnPart& part : turn.parts) {
      if (part.medium == nullptr) {
        text += trim(part.text);
        continue;
      }
      tokenizer.append_typed(std::exchange(text, std::string(around_media)) + std::string(around_media), tokens);
      append_medium(tokenizer, *part.medium, prompt);
    }
    tokenizer.append_typed(text, tokens);
    tokens.insert(tokens.end(), turn.tokens.begin(), turn.tokens.end());
    if (end == PromptEnd::open_answer && &turn == &turns.back()) return prompt;
    tokens.push_back(end_turn);
    tokenizer.append_typed("\n", tokens);
  }
  if (end == PromptEnd::generation_prompt) {
    tokens.push_back(begin_turn);
    tokenizer.append_typed("model\n", tokens);
  }
  return prompt;
}

constexpr auto formats = std::to_array<TurnFormat>({
    {"gemma", "<start_of_turn>", "<end_of_turn>", prompt_gemma},
});

}  // namespace

Role parse_role(std::string_view name) {
  for (const Role role : {Role::system, Role::user, Role::model}) {
    if (role_name(role) == name) return role;
  }
  if (name == "assistant") return Role::model;
  throw Error(Error::Kind::argument,
              "role is \"" + std::string(name) + "\", expected \"system\", \"user\", \"model\" or \"assistant\"");
}

const TurnFormat& turn_format(const Tokenizer& tokenizer, std::string_view name) {
  const auto has_markers = [&](const TurnFormat& format) {
    return tokenizer.find(format.begin) && tokenizer.find(format.end);
  };
  std::string known;
  for (const TurnFormat& format : formats) {
    if (name == format.name || (name.empty() && has_markers(format))) {
      if (has_markers(format)) return format;
      throw Error(Error::Kind::unsupported, "the turn format \"" + std::string(name) + "\" needs the tokens " +
                                                std::string(format.begin) + " and " + std::string(format.end) +
                                                ", which the vocabulary lacks");
    }
    known += (known.empty() ? "\"" : ", \"") + std::string(format.name) + "\"";
  }
  if (!name.empty()) {
    throw Error(Error::Kind::argument, "turn format is \"" + std::string(name) + "\", expected one of " + known);
  }
  throw Error(Error::Kind::unsupported,
              "the vocabulary has the markers of no turn format that is known (" + known + ")");
}

void append_medium(const Tokenizer& tokenizer, const Medium& medium, Prompt& prompt) {
  const auto mark = [&](const std::string& piece) {
    const std::optional<Token> found = tokenizer.find(piece);
    if (!found) {
      throw Error(Error::Kind::unsupported,
                  "the vocabulary has no " + piece + ": the model knows no pictures or sounds of this kind");
    }
    prompt.tokens.push_back(*found);
  };
  if (medium.count == 0 || medium.rows == nullptr) {
    throw Error(Error::Kind::argument, "a picture or a sound has no embeddings, expected at least one");
  }
  mark(medium.begin);
  prompt.media.push_back(
      {.begin = prompt.tokens.size(), .count = medium.count, .content = medium.content, .rows = medium.rows});
  prompt.tokens.resize(prompt.tokens.size() + medium.count, placeholder);
  if (!medium.end.empty()) mark(medium.end);
}

Prompt prompt_of_turns(const Tokenizer& tokenizer, std::span<const Turn> turns, const PromptOptions& options) {
  const TurnFormat& format = turn_format(tokenizer);
  return format.prompt(format, tokenizer, turns, options);
}

}  // namespace gemlet
