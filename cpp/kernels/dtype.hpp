#pragma once

#include <cstddef>
#include <cstdint>

namespace gemlet {

/// Storage types of weights; the values are GGUF's type ids (ggml.h, `enum ggml_type`). It lives with the kernels
/// because their table is indexed by it and the kernels may include nothing above them.
enum class DType : std::uint32_t { f32 = 0, f16 = 1, q4_0 = 2, q8_0 = 8, q4_k = 12, q5_k = 13, q6_k = 14, bf16 = 30 };

inline constexpr std::size_t dtype_table_size = 31;

/// Shape of a stored block: `elements` consecutive values of a row take `bytes` bytes.
struct DTypeTraits {
  const char* name;  ///< as GGUF tools print it, "Q4_0"
  std::size_t elements;
  std::size_t bytes;
};

/// Null for an id that gemlet does not read.
const DTypeTraits* find_dtype(std::uint32_t ggml_type) noexcept;
const DTypeTraits& traits(DType type) noexcept;

}  // namespace gemlet
