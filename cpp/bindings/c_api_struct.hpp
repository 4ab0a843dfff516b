#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "gemlet/error.hpp"

// The C interface's structs grow at the end. Their first field, struct_size, says how much of a struct the caller's
// header knew.
namespace gemlet {

/// A struct of the C interface: what messages call it, and the size that it had in its first release.
struct StructKind {
  const char* name;
  std::size_t first_size;
};

/// No struct is larger, so that a size beyond it was never set.
inline constexpr std::size_t most_struct_bytes = 4096;

inline bool is_struct_size(std::size_t size, StructKind kind) {
  return kind.first_size <= size && size <= most_struct_bytes;
}

/// The struct_size of a caller's struct, of which nothing else is read. Throws Error(argument) if it cannot be one.
inline std::size_t checked_struct_size(const void* from, StructKind kind) {
  std::size_t size = 0;
  std::memcpy(&size, from, sizeof size);
  if (!is_struct_size(size, kind)) {
    throw Error(Error::Kind::argument, std::string(kind.name) + ": struct_size is " + std::to_string(size) +
                                           ", expected " + std::to_string(kind.first_size) + " to " +
                                           std::to_string(most_struct_bytes) + "; set it to sizeof the struct");
  }
  return size;
}

/// A caller's struct. Fields that it ends before keep their `defaults`. Throws Error(unsupported) for one that is
/// longer than this library's and sets a field beyond.
template <typename T>
T read_struct(const void* from, StructKind kind, const T& defaults = {}) {
  const std::size_t size = checked_struct_size(from, kind);
  const auto* bytes = static_cast<const std::byte*>(from);
  for (std::size_t i = sizeof(T); i < size; ++i) {
    if (bytes[i] != std::byte{0}) {
      throw Error(Error::Kind::unsupported, std::string(kind.name) + ": struct_size is " + std::to_string(size) +
                                                ", this library knows " + std::to_string(sizeof(T)) +
                                                " bytes, and byte " + std::to_string(i) + " is not zero");
    }
  }
  T value = defaults;
  std::memcpy(&value, bytes, std::min(size, sizeof(T)));
  return value;
}

/// Fills in `size` bytes of a caller's struct, which keeps its struct_size; fields that this library does not have
/// become zero.
template <typename T>
void write_struct(void* to, std::size_t size, T value) {
  value.struct_size = size;
  std::memcpy(to, &value, std::min(size, sizeof(T)));
  if (size > sizeof(T)) std::memset(static_cast<std::byte*>(to) + sizeof(T), 0, size - sizeof(T));
}

}  // namespace gemlet
