#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "format/gguf_metadata.hpp"
#include "tensor/tensor.hpp"

namespace gemlet {

/// A tensor of a type that gemlet does not read. A file may hold some that the model never asks for.
struct OpaqueTensor {
  std::string name;
  std::uint32_t type = 0;  ///< ggml's type id
};

/// What one GGUF file says. Tensors and strings are views of its bytes.
struct GgufContents {
  GgufMetadata metadata;
  std::vector<std::span<const std::byte>> split_keys;  ///< the metadata pairs whose keys begin with "split."
  std::size_t metadata_end = 0;                        ///< bytes before the table of tensors
  std::size_t data_begin = 0;                          ///< bytes before the first tensor's data
  std::uint32_t alignment = 0;                         ///< of the tensors, in bytes
  std::vector<Tensor> tensors;                         ///< in file order
  std::vector<OpaqueTensor> opaque_tensors;
};

/// Reads a whole file that may be hostile, checking everything that GgufFile promises.
GgufContents read_gguf(const std::filesystem::path& path, std::span<const std::byte> bytes);

/// The name of a ggml type as GGUF tools print it ("Q4_0"), or "number 99".
std::string tensor_type_name(std::uint32_t id);

}  // namespace gemlet
