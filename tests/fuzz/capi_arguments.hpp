#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fuzz_input.hpp"
#include "gemlet/gemlet.h"

// Arguments of the C API that are read from an input: good ones, and bad ones that the header answers with an error.
namespace fuzz {

/// A struct in the middle of as much memory as any release's may have, so that a size beyond that is a broken promise.
template <typename T>
class Struct {
 public:
  explicit Struct(Input& input, const T& value = {}) : storage_(std::make_unique<Storage>()) {
    std::memcpy(storage_->bytes, &value, sizeof(T));
    get()->struct_size = sizeof(T);
    const std::uint8_t kind = input.byte();
    if (kind % 16 == 15) get()->struct_size = input.hostile(sizeof(T));
    if (kind % 16 == 14 || kind % 16 == 13) get()->struct_size = sizeof(T) + 8 * (1 + kind / 16);  // a newer header's
    if (kind % 16 == 13) storage_->bytes[sizeof(T) + kind / 16] = 1;
    null_ = kind % 16 == 12;
  }
  T* get() const { return reinterpret_cast<T*>(storage_->bytes); }
  T* pointer() const { return null_ ? nullptr : get(); }

 private:
  struct Storage {
    alignas(std::max_align_t) unsigned char bytes[8192];
  };
  std::unique_ptr<Storage> storage_;
  bool null_ = false;
};

/// The last argument of most calls, and what the header says of it.
class Failure {
 public:
  explicit Failure(Input& input) : error_(input) {}
  gemlet_error* pointer() const { return error_.pointer(); }

  /// Whether the call succeeded.
  bool check(gemlet_status status) const {
    expect(status >= GEMLET_OK && status < GEMLET_INTERNAL, std::string("no fault in the library: ") + message());
    const gemlet_error* error = error_.pointer();
    if (error == nullptr) return status == GEMLET_OK;
    if (error->struct_size < sizeof(gemlet_error) || error->struct_size > 4096) {
      expect(status == GEMLET_ARGUMENT && error->message[0] == '\0', "an error of another size fails the call");
    } else if (status != GEMLET_OK) {
      expect(error->status == status, "the error holds the status");
      expect(error->message[0] != '\0' && ::strnlen(error->message, sizeof(error->message)) < sizeof(error->message),
             "the error holds a message");
    }
    return status == GEMLET_OK;
  }

 private:
  const char* message() const { return error_.pointer() == nullptr ? "" : error_.get()->message; }

  Struct<gemlet_error> error_;
};

/// Whether an argument is to be a bad one.
inline bool odd(Input& input) { return input.byte() % 16 == 15; }

/// An array of the caller's, exactly as long as its capacity says, or NULL.
template <typename T>
class Buffer {
 public:
  explicit Buffer(Input& input, std::size_t most = 80) {
    const std::uint8_t kind = input.byte();
    items_.resize(kind % 16 == 15 ? kind / 16 : most);
    null_ = kind % 16 == 14;
    capacity_ = null_ && kind / 16 % 2 == 0 ? 0 : items_.size();
    no_count_ = kind % 16 == 13;
  }
  T* data() { return null_ ? nullptr : items_.data(); }
  std::size_t capacity() const { return capacity_; }
  std::size_t* count() { return no_count_ ? nullptr : &count_; }
  /// What was written, after a call that succeeded.
  std::span<const T> written() const { return std::span(items_).first(null_ ? 0 : std::min(count_, capacity_)); }
  std::size_t total() const { return count_; }

 private:
  std::vector<T> items_;
  std::size_t capacity_ = 0;
  std::size_t count_ = 0;
  bool null_ = false;
  bool no_count_ = false;
};

struct Tokens {
  std::vector<std::int32_t> ids;
  bool null;

  const std::int32_t* data() const { return null ? nullptr : ids.data(); }
};

/// Mostly ids of the tiny vocabulary; sometimes an id that it has not.
inline Tokens read_tokens(Input& input) {
  Tokens out{{}, odd(input)};
  for (std::size_t count = input.below(24); count > 0; --count) {
    const auto id = static_cast<std::int32_t>(input.number(2));
    out.ids.push_back(id < 65000 ? id % 290 : id - 65300);
  }
  return out;
}

/// Mostly one that fits a session of 64 tokens.
inline std::int32_t small_number(Input& input) {
  const auto number = static_cast<std::int8_t>(input.byte());
  return number == -2    ? std::numeric_limits<std::int32_t>::min()
         : number == 127 ? std::numeric_limits<std::int32_t>::max()
                         : number;
}

/// Parts of a turn, and what they point at.
class Parts {
 public:
  Parts(Input& input, std::span<gemlet_medium* const> media) {
    const std::uint8_t kind = input.byte();
    const std::size_t count = kind % 4;
    texts_.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      gemlet_part part{};
      const std::uint8_t content = input.byte();
      part.struct_size = content == 254 ? input.hostile(sizeof(part)) : sizeof(part);
      if (part.struct_size > sizeof(part) && part.struct_size <= 4096) part.struct_size = 0;  // reads the next part
      if (content % 4 != 3) part.medium = media[content % 4 % media.size()];
      if (part.medium == nullptr || content / 16 == 15) {
        texts_.push_back(input.text());
        part.text = odd(input) ? nullptr : texts_.back().c_str();
        part.length = texts_.back().size();
      }
      parts_.push_back(part);
    }
    null_ = kind / 16 == 15;
  }
  const gemlet_part* data() const { return null_ ? nullptr : parts_.data(); }
  std::size_t count() const { return parts_.size(); }
  bool have_media() const {
    return std::any_of(parts_.begin(), parts_.end(), [](const gemlet_part& part) { return part.medium != nullptr; });
  }

 private:
  std::vector<std::string> texts_;
  std::vector<gemlet_part> parts_;
  bool null_ = false;
};

/// Turns of one conversation, and what they point at.
class Turns {
 public:
  Turns(Input& input, std::span<gemlet_medium* const> media) {
    const std::uint8_t kind = input.byte();
    const std::size_t count = kind % 16 == 15 ? 0 : 1 + kind % 4;
    texts_.reserve(count);
    tokens_.reserve(count);
    parts_.reserve(count);
    constexpr std::array roles = {"user", "model", "assistant", "system", "tool", ""};
    for (std::size_t i = 0; i < count; ++i) {
      gemlet_turn turn{};
      const std::uint8_t role = input.byte();
      turn.struct_size = role == 254 ? input.hostile(sizeof(turn)) : sizeof(turn);
      if (turn.struct_size > sizeof(turn) && turn.struct_size <= 4096) turn.struct_size = 0;  // reads the next turn
      turn.role = role == 255 ? nullptr : roles[role / 16 == 15 ? role % roles.size() : i % 2];
      texts_.push_back(input.text());
      turn.text = odd(input) ? nullptr : texts_.back().c_str();
      turn.length = texts_.back().size();
      if (i % 2 == 1 && input.flag()) {
        tokens_.push_back(read_tokens(input));
        turn.tokens = tokens_.back().data();
        turn.token_count = tokens_.back().ids.size();
      }
      parts_.emplace_back(input, media);
      turn.parts = parts_.back().data();
      turn.part_count = parts_.back().count();
      if (turn.part_count > 0 && !odd(input)) turn.length = 0;
      turns_.push_back(turn);
    }
    null_ = kind / 16 == 15;
  }
  const gemlet_turn* data() const { return null_ ? nullptr : turns_.data(); }
  std::size_t count() const { return turns_.size(); }
  bool have_media() const {
    return std::any_of(parts_.begin(), parts_.end(), [](const Parts& parts) { return parts.have_media(); });
  }

 private:
  std::vector<std::string> texts_;
  std::vector<Tokens> tokens_;
  std::vector<Parts> parts_;
  std::vector<gemlet_turn> turns_;
  bool null_ = false;
};

}  // namespace fuzz
