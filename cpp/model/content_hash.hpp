#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "gemlet/gemlet.hpp"

namespace gemlet {

/// content_hash() of bytes that come in pieces: how they are cut changes nothing.
class ContentHasher {
 public:
  ContentHasher();
  void add(std::span<const std::byte> bytes);
  ContentHash hash() const;

 private:
  static constexpr std::size_t block_bytes = 128;

  void compress(bool last);

  std::array<std::uint64_t, 8> state_;
  std::array<std::byte, block_bytes> block_{};  // what is not compressed yet; never empty once there are bytes
  std::size_t filled_ = 0;                      // bytes of it
  std::uint64_t length_ = 0;                    // of all bytes before it
};

}  // namespace gemlet
