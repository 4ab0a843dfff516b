#pragma once

#include <cstddef>
#include <cstdint>

namespace gemlet {

/// Storage types of weights; the values are GGUF's type ids (ggml.h, `enum ggml_type`). It lives with the kernels
/// because their table is indexed by it and the kernels may include nothing above them. GGUF has ids that are no types
/// of weights, and have no traits here: integers, double precision, and Q8_1 and Q8_K, which ggml makes of activations.
enum class DType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq2_xxs = 16,
  iq2_xs = 17,
  iq3_xxs = 18,
  iq1_s = 19,
  iq4_nl = 20,
  iq3_s = 21,
  iq2_s = 22,
  iq4_xs = 23,
  iq1_m = 29,
  bf16 = 30,
  tq1_0 = 34,
  tq2_0 = 35,
  mxfp4 = 39,
  nvfp4 = 40,
  q1_0 = 41
};

inline constexpr std::size_t dtype_table_size = 42;

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
