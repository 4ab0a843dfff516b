#include "model/content_hash.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace gemlet {
namespace {

constexpr std::size_t word_size = sizeof(std::uint64_t);

}  // namespace

// Two chains over 64-bit words, each step of which can be undone: xor, multiply, rotate, with different multipliers.
// The last word is filled up with zeros; the length tells such bytes apart.
void ContentHasher::mix(std::uint64_t word) {
  constexpr std::uint64_t multipliers[2] = {0x9e3779b97f4a7c15ULL, 0xd1342543de82ef95ULL};
  for (std::size_t i = 0; i < 2; ++i) state_[i] = std::rotl((state_[i] ^ word) * multipliers[i], 31);
}

void ContentHasher::add(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t filled = length_ % word_size;
    const std::size_t count = std::min(bytes.size(), word_size - filled);
    std::memcpy(reinterpret_cast<std::byte*>(&word_) + filled, bytes.data(), count);
    bytes = bytes.subspan(count);
    length_ += count;
    if (length_ % word_size == 0) {
      mix(word_);
      word_ = 0;
    }
  }
}

ContentHash ContentHasher::hash() const {
  ContentHasher end = *this;
  end.mix(word_);
  end.mix(length_);
  end.mix(~length_);
  return end.state_;
}

ContentHash content_hash(std::span<const std::byte> bytes) {
  ContentHasher hasher;
  hasher.add(bytes);
  return hasher.hash();
}

}  // namespace gemlet
