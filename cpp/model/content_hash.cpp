#include "model/content_hash.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace gemlet {
namespace {

// BLAKE2b (RFC 7693) without a key.
constexpr std::uint64_t initial[8] = {0x6a09e667f3bcc908ULL, 0xbb67ae8584caa73bULL, 0x3c6ef372fe94f82bULL,
                                      0xa54ff53a5f1d36f1ULL, 0x510e527fade682d1ULL, 0x9b05688c2b3e6c1fULL,
                                      0x1f83d9abfb41bd6bULL, 0x5be0cd19137e2179ULL};
constexpr std::uint8_t permutations[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};
constexpr std::size_t rounds = 12;
constexpr std::uint64_t parameters = 0x01010000U | sizeof(ContentHash);  // one leaf, no key, bytes of the digest

std::uint64_t word_at(const std::byte* bytes) {
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < sizeof(word); ++i) word |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return word;
}

void mix(std::uint64_t& a, std::uint64_t& b, std::uint64_t& c, std::uint64_t& d, std::uint64_t x, std::uint64_t y) {
  a += b + x;
  d = std::rotr(d ^ a, 32);
  c += d;
  b = std::rotr(b ^ c, 24);
  a += b + y;
  d = std::rotr(d ^ a, 16);
  c += d;
  b = std::rotr(b ^ c, 63);
}

}  // namespace

ContentHasher::ContentHasher() {
  std::copy(std::begin(initial), std::end(initial), state_.begin());
  state_[0] ^= parameters;
}

void ContentHasher::compress(bool last) {
  length_ += filled_;
  std::uint64_t m[16], v[16];
  for (std::size_t i = 0; i < 16; ++i) m[i] = word_at(block_.data() + 8 * i);
  std::copy(state_.begin(), state_.end(), v);
  std::copy(std::begin(initial), std::end(initial), v + 8);
  v[12] ^= length_;
  if (last) v[14] = ~v[14];
  for (std::size_t round = 0; round < rounds; ++round) {
    const std::uint8_t* const at = permutations[round % 10];
    for (std::size_t i = 0; i < 4; ++i) mix(v[i], v[4 + i], v[8 + i], v[12 + i], m[at[2 * i]], m[at[2 * i + 1]]);
    for (std::size_t i = 0; i < 4; ++i) {
      mix(v[i], v[4 + (i + 1) % 4], v[8 + (i + 2) % 4], v[12 + (i + 3) % 4], m[at[8 + 2 * i]], m[at[9 + 2 * i]]);
    }
  }
  for (std::size_t i = 0; i < 8; ++i) state_[i] ^= v[i] ^ v[8 + i];
}

void ContentHasher::add(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (filled_ == block_bytes) {
      compress(false);
      filled_ = 0;
    }
    const std::size_t count = std::min(bytes.size(), block_bytes - filled_);
    std::memcpy(block_.data() + filled_, bytes.data(), count);
    filled_ += count;
    bytes = bytes.subspan(count);
  }
}

ContentHash ContentHasher::hash() const {
  ContentHasher end = *this;
  std::fill(end.block_.begin() + static_cast<std::ptrdiff_t>(filled_), end.block_.end(), std::byte{0});
  end.compress(true);
  return {end.state_[0], end.state_[1]};
}

ContentHash content_hash(std::span<const std::byte> bytes) {
  ContentHasher hasher;
  hasher.add(bytes);
  return hasher.hash();
}

}  // namespace gemlet
