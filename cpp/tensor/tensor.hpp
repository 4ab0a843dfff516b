#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/dtype.hpp"

namespace gemlet {

/// A non-owning view of stored weights. `shape` is outermost first as in PyTorch, the reverse of GGUF's order; rows are
/// contiguous along the last dimension.
struct Tensor {
  std::string name;
  DType type = DType::f32;
  std::array<std::int64_t, 4> shape{1, 1, 1, 1};
  int rank = 0;
  const std::byte* data = nullptr;

  std::int64_t cols() const { return rank == 0 ? 0 : shape[static_cast<std::size_t>(rank - 1)]; }
  std::int64_t elements() const { return rank == 0 ? 0 : shape[0] * shape[1] * shape[2] * shape[3]; }
  std::size_t row_bytes() const;
  std::size_t bytes() const;
  std::string shape_string() const;  ///< "[2048, 256]"
};

/// A weight matrix, used as y = W x: `rows` outputs, `cols` inputs. Perhaps a part of a larger one.
struct Matrix {
  const std::byte* data = nullptr;
  DType type = DType::f32;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t row_bytes = 0;  ///< from the beginning of a row to that of the next

  /// One whose rows follow each other without gaps.
  static Matrix packed(const std::byte* data, DType type, std::size_t rows, std::size_t cols);

  /// Whether it is the whole of a stored tensor.
  bool is(const Tensor& tensor) const {
    return data == tensor.data && tensor.rank == 2 && rows == static_cast<std::size_t>(tensor.shape[0]) &&
           cols == static_cast<std::size_t>(tensor.shape[1]);
  }

  const std::byte* row(std::size_t r) const { return data + r * row_bytes; }
  std::size_t bytes() const;  ///< of its own elements, without the gaps between its rows

  /// Views of the first rows or columns; `n` columns are whole blocks of the type.
  Matrix first_rows(std::size_t n) const { return {data, type, n, cols, row_bytes}; }
  Matrix first_cols(std::size_t n) const { return {data, type, rows, n, row_bytes}; }
};

}  // namespace gemlet
