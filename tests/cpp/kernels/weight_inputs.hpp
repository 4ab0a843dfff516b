#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/blocks.hpp"
#include "kernels/half.hpp"
#include "kernels/kernel_inputs.hpp"
#include "kernels/kernels.hpp"

// Rows of stored weights of every type, for the tests of their kernels.
namespace kernel_inputs {

using Bytes = std::vector<std::uint8_t>;

inline std::vector<DType> all_types() {
  std::vector<DType> types;
  for (std::uint32_t id = 0; id < gemlet::dtype_table_size; ++id) {
    if (gemlet::find_dtype(id) != nullptr) types.push_back(static_cast<DType>(id));
  }
  return types;
}

inline void put_half(Bytes& row, std::size_t at, float value) {
  const std::uint16_t half = gemlet::kernels::float_to_half(value);
  std::memcpy(row.data() + at, &half, sizeof(half));
}

/// The floats of the block at `at`, of a type with blocks: its scale, and its min where it has one.
inline void put_scales(Bytes& row, std::size_t at, DType type, float d, float min) {
  using namespace gemlet::kernels;
  switch (type) {
    case DType::q4_1:
    case DType::q5_1:
    case DType::q4_k:
    case DType::q5_k:
      put_half(row, at, d);
      put_half(row, at + 2, min);
      break;
    case DType::q2_k:
      put_half(row, at + offsetof(BlockQ2_K, d), d);
      put_half(row, at + offsetof(BlockQ2_K, dmin), min);
      break;
    case DType::q3_k:
      put_half(row, at + offsetof(BlockQ3_K, d), d);
      break;
    case DType::q6_k:
      put_half(row, at + offsetof(BlockQ6_K, d), d);
      break;
    case DType::iq1_m:  // four bits of it on top of each of four numbers
      for (std::size_t i = 0; i < 4; ++i) {
        std::uint8_t& top = row[at + offsetof(BlockIQ1_M, scales) + 2 * i + 1];
        top = static_cast<std::uint8_t>((top & 15) | ((float_to_half(d) >> (4 * i)) & 15) << 4);
      }
      break;
    case DType::tq1_0:
      put_half(row, at + offsetof(BlockTQ1_0, d), d);
      break;
    case DType::tq2_0:
      put_half(row, at + offsetof(BlockTQ2_0, d), d);
      break;
    case DType::mxfp4:
      row[at] = static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(d) >> 23);
      break;
    case DType::nvfp4:  // bytes, each of them finite
      break;
    default:
      put_half(row, at, d);
  }
}

/// Puts a NaN into the first block of the row at `at`; false for the types that have none.
inline bool put_nan(Bytes& row, std::size_t at, DType type) {
  if (type == DType::mxfp4 || type == DType::nvfp4) return false;
  if (type == DType::f32) {
    std::memcpy(row.data() + at, &not_a_number, sizeof(not_a_number));
  } else if (type == DType::bf16) {
    row[at] = 0xC0;
    row[at + 1] = 0x7F;
  } else if (type == DType::f16) {
    put_half(row, at, not_a_number);
  } else {
    put_scales(row, at, type, not_a_number, 0.0F);
  }
  return true;
}

/// Random bytes with finite scales. `extreme`: every code byte at an end of its range, where a
/// sum in too few bits would overflow.
inline Bytes weights(Random& random, DType type, std::size_t elements, bool extreme = false) {
  const std::size_t block = gemlet::traits(type).bytes;
  Bytes row(elements / gemlet::traits(type).elements * block);
  if (type == DType::f32) {
    for (std::size_t i = 0; i < elements; ++i) {
      const float v = extreme ? (i % 2 == 0 ? 1e15F : -1e15F) : random.normal();
      std::memcpy(row.data() + 4 * i, &v, sizeof(v));
    }
    return row;
  }
  if (type == DType::f16 || type == DType::bf16) {
    for (std::size_t i = 0; i < elements; ++i) {
      const float v = extreme ? (i % 2 == 0 ? 65504.0F : 6e-8F) : random.normal();
      const std::uint16_t bits =
          type == DType::f16 ? gemlet::kernels::float_to_half(v) : gemlet::kernels::float_to_bfloat(v);
      std::memcpy(row.data() + 2 * i, &bits, sizeof(bits));
    }
    return row;
  }
  for (auto& byte : row) {
    constexpr std::uint8_t ends[] = {0x00, 0xFF, 0x80, 0x7F, 0x0F, 0xF0};
    byte = extreme ? ends[random.below(std::size(ends))] : static_cast<std::uint8_t>(random.bits());
  }
  for (std::size_t at = 0; at < row.size(); at += block) {
    const float d = random.symmetric(0.1F);
    put_scales(row, at, type, d, random.symmetric(0.1F));
  }
  return row;
}

}  // namespace kernel_inputs
