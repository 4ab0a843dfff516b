#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gemlet/gemlet.hpp"
#include "model/adapter.hpp"

namespace gemlet {

/// What a saved session tells of its requests' prefix scopes, whose names it leaves out: they may be secrets.
enum class SavedScope : std::uint16_t { no_request, unnamed, named };

/// What a sequence is made of: tokens, pictures and sounds in their places, and the adapter that it is computed with.
/// Two timelines share keys and values only where all three are the same.
class Timeline {
 public:
  std::span<const Token> tokens() const { return tokens_; }
  std::span<const Media> media() const { return media_; }
  const std::shared_ptr<const Adapter>& adapter() const { return adapter_; }
  std::size_t size() const { return tokens_.size(); }

  /// Throws Error(argument) for media that do not lie inside the prompt, one behind the other, with rows of
  /// `hidden_size` floats.
  static void check(const Prompt& prompt, std::size_t hidden_size);

  /// `prompt`'s media are counted from its first token.
  void append(const Prompt& prompt);
  void push_back(Token token) { tokens_.push_back(token); }
  /// Keeps what lies before `length`, which is no place inside of a picture.
  void truncate(std::size_t length);
  /// Makes it empty.
  void set_adapter(std::shared_ptr<const Adapter> adapter);

  /// Notes that a request of this prefix scope (Request::prefix_scope) goes on from here. An empty timeline forgets it.
  void add_scope(const std::string& scope);
  /// False if a request of any other scope has a part in it.
  bool only_of(const std::string& scope) const { return !other_scopes_ && scope_.value_or(scope) == scope; }
  SavedScope saved_scope() const;
  /// After that, a timeline whose scopes have names is no scope's alone.
  void restore_scope(SavedScope saved);

  /// The length of the longest beginning that is the same, has at most `most` positions and does not end inside of a
  /// picture.
  std::size_t common_prefix(const Prompt& prompt, std::size_t most) const;
  bool may_cut(std::size_t at) const { return cut_before(at) == at; }
  /// A timeline that was restored knows its media by their content alone: takes the rows of those that `prompt` has
  /// too.
  void take_rows(const Prompt& prompt);
  /// As if restored.
  void drop_rows();
  /// All of it, to compare with other timelines.
  Prompt prompt() const;

  /// The last place at or before `at`, and the first at or after it, that does not lie inside of a picture.
  std::size_t cut_before(std::size_t at) const;
  std::size_t cut_after(std::size_t at) const;

 private:
  const Media* across(std::size_t at) const;

  std::vector<Token> tokens_;
  std::vector<Media> media_;  // in order
  std::shared_ptr<const Adapter> adapter_;
  std::optional<std::string> scope_;  // of the first request
  bool other_scopes_ = false;         // of a later one
};

/// What follows the first `begin` positions of a prompt, which do not end inside of a picture.
Prompt rest_of(const Prompt& prompt, std::size_t begin);

}  // namespace gemlet
