#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "format/mapped_file.hpp"
#include "tensor/tensor.hpp"

namespace gemlet {

/// An array of strings inside the mapped file: views, checked for bounds when the file was opened.
using GgufStrings = std::vector<std::string_view>;
using GgufValue = std::variant<bool, std::int64_t, std::uint64_t, double, std::string_view, std::vector<bool>,
                               std::vector<std::int64_t>, std::vector<double>, GgufStrings>;

/// A piece of a file for a message: in double quotes, cut after 80 bytes, and escaped to printable ASCII, so that a
/// hostile name cannot garble a terminal.
std::string quote(std::string_view text);

/// A GGUF file, version 2 or 3, memory-mapped and read as untrusted input
/// (github.com/ggml-org/ggml/blob/master/docs/gguf.md).
/// The constructor checks everything that later code relies on: counts and lengths against the file size before any
/// allocation, known types, no duplicate names, dimensions that do not overflow, rows that are whole blocks, offsets
/// aligned (to 8 bytes at least) and inside the file, tensors that do not overlap. Bytes after the last tensor are left
/// alone. Throws Error naming the file and the field or tensor.
class GgufFile {
 public:
  explicit GgufFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const MappedFile& file() const { return file_; }
  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  std::size_t metadata_end() const { return metadata_end_; }       ///< bytes before the table of tensors
  std::uint32_t alignment() const { return alignment_; }           ///< of the tensors, in bytes
  const std::vector<Tensor>& tensors() const { return tensors_; }  ///< in file order

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

  const Tensor* find_tensor(std::string_view name) const;
  /// The mapped file that a tensor's bytes lie in.
  const MappedFile& file_of(const std::byte* data) const;

 private:
  std::filesystem::path path_;
  MappedFile file_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::size_t metadata_end_ = 0;
  std::uint32_t alignment_ = 0;
  std::vector<Tensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> tensor_index_;
};

}  // namespace gemlet
