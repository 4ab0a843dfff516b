#pragma once

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/file_rows.hpp"
#include "format/gguf.hpp"
#include "tensor/tensor.hpp"

namespace gemlet {

/// Reads a model's configuration and weights from a GGUF file, everything checked for type, range and shape. Each
/// failure is an Error(format) that names the file, the key or tensor, what was expected and what was found.
///
/// Keys are given without the architecture: "block_count" is looked up as "ARCHITECTURE.block_count". A key that other
/// converters spell differently is found under those spellings too, the standard one first. Refers to the file, which
/// must outlive the reader and everything it returns.
class Reader {
 public:
  /// `architecture`: what keys begin with; usually the file's own "general.architecture".
  Reader(const GgufFile& file, std::string_view architecture);

  const GgufFile& file() const { return file_; }

  bool has_key(std::string_view key) const;
  /// An integer of `low` to `high`; the second form takes `fallback`, which must be in range too, for a missing key.
  std::size_t size(std::string_view key, std::size_t low, std::size_t high) const;
  std::size_t size(std::string_view key, std::size_t low, std::size_t high, std::size_t fallback) const;
  /// One for each layer: an array of so many, or a single number that holds for all.
  std::vector<std::size_t> sizes(std::string_view key, std::size_t count, std::size_t low, std::size_t high) const;
  std::vector<std::size_t> sizes(std::string_view key, std::size_t count, std::size_t low, std::size_t high,
                                 std::size_t fallback) const;
  /// A finite number above zero.
  float positive(std::string_view key) const;
  float positive(std::string_view key, float fallback) const;
  /// The same, or nothing where the key is missing or zero: a soft cap that a model does not have.
  std::optional<float> optional_positive(std::string_view key) const;
  bool flag(std::string_view key, bool fallback) const;
  std::string_view string(std::string_view key, std::string_view fallback) const;
  /// One number for each layer, as the file has them: infinities are left to the caller.
  std::vector<float> numbers(std::string_view key, std::size_t count) const;
  /// Which layers are local, that is attend to a sliding window: an array of bools, or the number n that makes every
  /// n-th layer a full one (0: none). `period` is that number for files without the key.
  std::vector<bool> sliding_layers(std::size_t layers, std::size_t period) const;

  /// Whether the file has the tensor. Throws for one that it has in a type that nothing can read.
  bool has(const std::string& name) const;
  /// Shapes are outermost first, as in PyTorch.
  const Tensor& tensor(const std::string& name, std::initializer_list<std::size_t> shape) const;
  /// Dimension `axis` of a tensor of `rank` dimensions, for a size that has no key.
  std::size_t dimension(const std::string& name, int rank, int axis, std::size_t low, std::size_t high) const;
  Matrix matrix(const std::string& name, std::size_t rows, std::size_t cols) const;
  /// `count` matrices that lie behind one another in one tensor.
  std::vector<Matrix> stack(const std::string& name, std::size_t count, std::size_t rows, std::size_t cols) const;
  /// A small tensor of any type, copied out as float32; its values are finite.
  std::vector<float> floats(const std::string& name, std::initializer_list<std::size_t> shape) const;
  /// A matrix that stays in its file.
  FileRows rows(const std::string& name, std::size_t rows, std::size_t cols) const;

  /// Throws Error(format), naming the file.
  [[noreturn]] void fail(const std::string& what) const;
  /// A value that the caller computed from others, checked like a key's.
  std::size_t bounded(const std::string& name, std::size_t value, std::size_t low, std::size_t high) const;

 private:
  /// The key as the file spells it; the standard spelling if it has none.
  std::string full_key(std::string_view key) const;

  const GgufFile& file_;
  std::string prefix_;
};

}  // namespace gemlet
