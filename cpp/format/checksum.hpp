#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>

namespace gemlet {

/// Eight chains of xor, multiply, rotate over 64-bit words: each step can be undone, so that no single change of the
/// bytes goes unseen, and eight are fast enough to check a file of any size at the speed of memory. It finds damage; it
/// is no protection against forgery.
class Checksum {
 public:
  static constexpr std::size_t block = 64;

  /// Adds bytes, whose number is a multiple of `block`.
  void add(std::span<const std::byte> bytes) {
    for (; !bytes.empty(); bytes = bytes.subspan(block)) {
      std::uint64_t words[lanes];
      std::memcpy(words, bytes.data(), sizeof(words));
      for (std::size_t i = 0; i < lanes; ++i) state_[i] = std::rotl((state_[i] ^ words[i]) * multiplier, 31);
    }
  }
  std::uint64_t value() const {
    std::uint64_t sum = 0;
    for (const std::uint64_t lane : state_) sum = std::rotl((sum ^ lane) * multiplier, 31);
    return sum;
  }

 private:
  static constexpr std::size_t lanes = block / sizeof(std::uint64_t);
  static constexpr std::uint64_t multiplier = 0x9e3779b97f4a7c15ULL;
  std::uint64_t state_[lanes] = {1, 2, 3, 4, 5, 6, 7, 8};
};

/// The checksum of a file, filled up with zeros to whole blocks. Reads it piece by piece: none of it stays resident.
/// Throws Error(io).
std::uint64_t file_checksum(const std::filesystem::path& path);

}  // namespace gemlet
