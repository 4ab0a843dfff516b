#include "tensor/tensor.hpp"

namespace gemlet {
namespace {

std::size_t bytes_of(DType type, std::size_t elements) {
  const DTypeTraits& t = traits(type);
  return elements / t.elements * t.bytes;
}

}  // namespace

std::size_t Tensor::row_bytes() const { return bytes_of(type, static_cast<std::size_t>(cols())); }

std::size_t Tensor::bytes() const { return bytes_of(type, static_cast<std::size_t>(elements())); }

std::string Tensor::shape_string() const {
  std::string text = "[";
  for (int i = 0; i < rank; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[static_cast<std::size_t>(i)]);
  }
  return text + "]";
}

Matrix Matrix::packed(const std::byte* data, DType type, std::size_t rows, std::size_t cols) {
  return {data, type, rows, cols, bytes_of(type, cols)};
}

std::size_t Matrix::bytes() const { return bytes_of(type, rows * cols); }

}  // namespace gemlet
