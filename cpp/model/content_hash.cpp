#include <algorithm>
#include <bit>
#include <cstring>

#include "gemlet/gemlet.hpp"

namespace gemlet {

// Two chains over 64-bit words, each step of which can be undone: xor, multiply, rotate, with different multipliers.
// The last word is filled up with zeros; the length tells such bytes apart.
ContentHash content_hash(std::span<const std::byte> bytes) {
  constexpr std::uint64_t multipliers[2] = {0x9e3779b97f4a7c15ULL, 0xd1342543de82ef95ULL};
  ContentHash hash = {bytes.size(), ~std::uint64_t{bytes.size()}};
  const auto mix = [&](std::uint64_t word) {
    for (std::size_t i = 0; i < 2; ++i) hash[i] = std::rotl((hash[i] ^ word) * multipliers[i], 31);
  };
  for (; !bytes.empty(); bytes = bytes.subspan(std::min(bytes.size(), sizeof(std::uint64_t)))) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), std::min(bytes.size(), sizeof(word)));
    mix(word);
  }
  mix(0);
  return hash;
}

}  // namespace gemlet
