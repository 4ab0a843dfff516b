#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "gemlet/gemlet.hpp"

namespace gemlet {

/// content_hash() of bytes that come in pieces: how they are cut changes nothing.
class ContentHasher {
 public:
  void add(std::span<const std::byte> bytes);
  ContentHash hash() const;

 private:
  void mix(std::uint64_t word);

  ContentHash state_{};
  std::uint64_t word_ = 0;    // of the bytes that do not fill one yet
  std::uint64_t length_ = 0;  // of all bytes
};

}  // namespace gemlet
