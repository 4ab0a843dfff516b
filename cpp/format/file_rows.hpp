#pragma once

#include <cstddef>

#include "format/mapped_file.hpp"
#include "tensor/tensor.hpp"

namespace gemlet {

/// A matrix that stays in its file: rows are copied from it when they are wanted, so that none of it is resident.
/// Refers to the file, which must outlive it.
class FileRows {
 public:
  FileRows() = default;
  FileRows(const MappedFile& file, const Matrix& matrix) : file_(&file), matrix_(matrix) {}

  DType type() const { return matrix_.type; }
  std::size_t rows() const { return matrix_.rows; }
  std::size_t cols() const { return matrix_.cols; }
  std::size_t row_bytes() const { return matrix_.row_bytes; }
  bool is(const Tensor& tensor) const { return tensor.data == matrix_.data; }

  FileRows first_rows(std::size_t n) const { return {*file_, matrix_.first_rows(n)}; }

  /// Throws Error(io) where the file was truncated.
  void read(std::size_t row, std::byte* out) const { file_->read(bytes(row), out); }
  /// Announces a read.
  void fetch(std::size_t row) const noexcept { file_->fetch(bytes(row)); }

 private:
  std::span<const std::byte> bytes(std::size_t row) const { return {matrix_.row(row), matrix_.row_bytes}; }

  const MappedFile* file_ = nullptr;
  Matrix matrix_;
};

}  // namespace gemlet
