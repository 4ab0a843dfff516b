#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>

// What the fuzz targets share: decisions that are read from arbitrary bytes, their counterpart for seeds, and the end
// of a run that breaks a promise.

/// One run of a fuzz target: libFuzzer and run_corpus.cpp call it. Returns 0.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace fuzz {

/// Ends the process, by which libFuzzer and ctest know that this input is a finding.
inline void expect(bool condition, const std::string& promise) {
  if (condition) return;
  std::fprintf(stderr, "broken promise: %s\n", promise.c_str());
  std::abort();
}

/// Reads an input from its beginning; beyond the end all numbers are 0 and all texts empty.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return rest_.empty(); }
  std::uint8_t byte() {
    const std::string_view taken = take(1);
    return taken.empty() ? std::uint8_t{0} : static_cast<std::uint8_t>(taken[0]);
  }
  bool flag() { return byte() % 2 == 1; }
  /// Less than `n`, which is at most 256.
  std::size_t below(std::size_t n) { return byte() % n; }
  std::uint64_t number(std::size_t bytes) {
    const std::string_view taken = take(bytes);
    std::uint64_t value = 0;
    std::memcpy(&value, taken.data(), std::min(taken.size(), sizeof(value)));
    return value;
  }
  /// A length, in so many bytes itself, and the text.
  std::string text(std::size_t length_bytes = 1) {
    const std::uint64_t length = number(length_bytes);
    return std::string(take(length));
  }
  std::string rest() { return std::string(take(rest_.size())); }

  /// A number that breaks arithmetic on sizes, a neighbour of the one that was there, or any.
  std::uint64_t hostile(std::uint64_t original) {
    const std::uint8_t kind = byte();
    const std::uint64_t power = std::uint64_t{1} << (kind / 16 * 4);
    switch (kind % 10) {
      case 0:
        return kind / 10;
      case 1:
        return std::numeric_limits<std::uint64_t>::max() - kind / 10;
      case 2:
        return power - 1;
      case 3:
        return power;
      case 4:
        return original + kind / 10;
      case 5:
        return original - kind / 10;
      case 6:
        return original * 2;
      case 7:
        return original ^ power;
      default:
        return number(8);
    }
  }

 private:
  std::string_view take(std::size_t bytes) {
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(taken.size());
    return taken;
  }

  std::string_view rest_;
};

/// Writes what Input reads.
class Output {
 public:
  Output& byte(std::size_t value) {
    bytes_ += static_cast<char>(value);
    return *this;
  }
  Output& number(std::uint64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) byte(value >> (8 * i) & 255);
    return *this;
  }
  Output& text(std::string_view value, std::size_t length_bytes = 1) {
    return number(value.size(), length_bytes).rest(value);
  }
  Output& rest(std::string_view value) {
    bytes_ += value;
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

}  // namespace fuzz
