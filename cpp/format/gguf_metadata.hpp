#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace gemlet {

/// An array of strings inside the mapped file: views, checked for bounds when the file was opened.
using GgufStrings = std::vector<std::string_view>;
using GgufValue = std::variant<bool, std::int64_t, std::uint64_t, double, std::string_view, std::vector<bool>,
                               std::vector<std::int64_t>, std::vector<double>, GgufStrings>;

/// A piece of a file for a message: in double quotes, cut after 80 bytes, and escaped to printable ASCII, so that a
/// hostile name cannot garble a terminal.
std::string quote(std::string_view text);

/// The keys and values of a GGUF file; strings are views of the mapped file. Throws Error naming the file and the key.
class GgufMetadata {
 public:
  using Map = std::map<std::string, GgufValue, std::less<>>;

  GgufMetadata() = default;
  GgufMetadata(std::filesystem::path path, Map values) : path_(std::move(path)), values_(std::move(values)) {}

  const std::filesystem::path& path() const { return path_; }
  const Map& values() const { return values_; }

  // Typed metadata; `get_*` throw when the key is missing or of another type or out of range, `find_*` return the
  // default only when the key is missing. A single float is finite; arrays hold what the file says (a dense layer's
  // activation_sparsity_scale is minus infinity).
  std::uint32_t get_u32(std::string_view key) const;
  std::uint32_t find_u32(std::string_view key, std::uint32_t fallback) const;
  float get_f32(std::string_view key) const;
  float find_f32(std::string_view key, float fallback) const;
  bool find_bool(std::string_view key, bool fallback) const;
  std::string_view get_string(std::string_view key) const;
  std::string_view find_string(std::string_view key, std::string_view fallback) const;
  const GgufStrings& get_strings(std::string_view key) const;
  bool contains(std::string_view key) const;
  bool is_array(std::string_view key) const;  ///< false for a missing key
  /// A scalar counts as `count` equal values (GGUF writers store per-layer fields both ways); any other length throws.
  std::vector<std::uint32_t> get_u32s(std::string_view key, std::size_t count) const;
  std::vector<float> get_f32s(std::string_view key, std::size_t count) const;
  std::vector<bool> get_bools(std::string_view key, std::size_t count) const;
  /// The whole array, whatever its length.
  const std::vector<std::int64_t>& get_integers(std::string_view key) const;
  const std::vector<double>& get_numbers(std::string_view key) const;

 private:
  std::filesystem::path path_;
  Map values_;
};

}  // namespace gemlet
