#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/blocks.hpp"
#include "kernels/kernels.hpp"

// Sums of weight rows times factors (CombineArgs), written once for every instruction set; see simd_float.hpp for `V`.
namespace gemlet::kernels::simd {

template <typename V>
struct CombineQ8_0 {
  using Block = BlockQ8_0;
  static void codes(const Block& block, std::int8_t* out) { std::memcpy(out, block.q, sizeof(block.q)); }
  static constexpr float centre = 0;
};

template <typename V>
struct CombineQ4_0 {
  using Block = BlockQ4_0;
  static void codes(const Block& block, std::int8_t* out) {
    constexpr std::uint64_t low = 0x0F0F0F0F0F0F0F0FU;
    std::uint64_t packed[2];
    std::memcpy(packed, block.nibbles, sizeof(packed));
    const std::uint64_t unpacked[4] = {packed[0] & low, packed[1] & low, packed[0] >> 4 & low, packed[1] >> 4 & low};
    std::memcpy(out, unpacked, sizeof(unpacked));
  }
  static constexpr float centre = 8;
};

// Two blocks of columns at a time, whose sums stay in registers while all rows pass.
template <typename V, typename Type, int blocks>
void combine_columns(const CombineArgs& args, std::size_t first_block) {
  using Float = typename V::Float;
  using Block = typename Type::Block;
  constexpr int vectors = 32 / V::width;
  Float sums[blocks][vectors];
  for (int b = 0; b < blocks; ++b) {
    for (int v = 0; v < vectors; ++v) sums[b][v] = V::set(0.0F);
  }
  const auto row = [&](std::size_t i) {
    return static_cast<const std::uint8_t*>(args.weights) + args.row_ids[i] * args.row_bytes +
           first_block * sizeof(Block);
  };
  for (std::size_t i = 0; i < args.rows; ++i) {
    constexpr std::size_t ahead = 8;
    if (i + ahead < args.rows) __builtin_prefetch(row(i + ahead));
    for (int b = 0; b < blocks; ++b) {
      Block block;
      std::memcpy(&block, row(i) + static_cast<std::size_t>(b) * sizeof(Block), sizeof(Block));
      std::int8_t codes[32];
      Type::codes(block, codes);
      const Float scale = V::mul(V::set(args.factors[i]), V::set_half(block.d));
      for (int v = 0; v < vectors; ++v) {
        const Float code = V::sub(V::load_int8(codes + v * V::width), V::set(Type::centre));
        sums[b][v] = V::fma(scale, code, sums[b][v]);
      }
    }
  }
  for (int b = 0; b < blocks; ++b) {
    float* out = args.out + (first_block + static_cast<std::size_t>(b)) * 32;
    for (int v = 0; v < vectors; ++v) V::store(out + v * V::width, sums[b][v]);
  }
}

template <typename V, typename Type>
void combine_quantized(const CombineArgs& args) {
  const std::size_t blocks = args.cols / 32;
  std::size_t b = 0;
  for (; b + 2 <= blocks; b += 2) combine_columns<V, Type, 2>(args, b);
  if (b < blocks) combine_columns<V, Type, 1>(args, b);
}

}  // namespace gemlet::kernels::simd
