#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>

#include "kernels/kernels.hpp"
#include "kernels/simd_float.hpp"

// Matrix products of quantised weights with int8 activations, written once for every instruction set (see
// simd_float.hpp for `V`). A tile is V::width weight rows, one to a lane. Eight blocks of 32 columns are unpacked at a
// time into a panel of V::Bytes, whose lane r holds four consecutive columns of row r; all tokens then pass over it.
//
// For each row and token: acc += D * (scale * sum(code * q)) - M * sum(x), block after block, with the integer sum
// exact. Nothing in it depends on the other rows and tokens of the call.
namespace gemlet::kernels::simd {

constexpr std::size_t panel_blocks = 8;
constexpr std::size_t token_tile = 32;  // accumulators on the stack

// `codes[k]`: columns 4k to 4k + 3. A weight is scale * code - offset; both may differ between the halves of a block.
template <typename V, int halves>
struct PanelBlock {
  typename V::Bytes codes[8];
  typename V::Float scale[halves];
  typename V::Float offset[halves];
};

template <typename V>
struct Q4_0 {
  using Block = BlockQ4_0;
  static constexpr int bits = 4;
  static constexpr int halves = 1;
  static constexpr bool has_offset = true;
  static constexpr std::size_t blocks = 1;  // of 32, in a stored block

  static void unpack(const std::uint8_t* const* rows, PanelBlock<V, halves>* out) {
    typename V::Bytes packed[4];
    V::load_transposed(rows, offsetof(Block, nibbles), packed);
    for (int k = 0; k < 4; ++k) {
      out->codes[k] = V::template bits<0, 4>(packed[k]);
      out->codes[k + 4] = V::template bits<4, 4>(packed[k]);
    }
    out->scale[0] = V::load_halves(rows, offsetof(Block, d));
    out->offset[0] = V::mul(out->scale[0], V::set(8.0F));
  }
};

template <typename V>
struct Q8_0 {
  using Block = BlockQ8_0;
  static constexpr int bits = 8;
  static constexpr int halves = 1;
  static constexpr bool has_offset = false;
  static constexpr std::size_t blocks = 1;

  static void unpack(const std::uint8_t* const* rows, PanelBlock<V, halves>* out) {
    V::load_transposed(rows, offsetof(Block, q), out->codes);
    V::load_transposed(rows, offsetof(Block, q) + 16, out->codes + 4);
    out->scale[0] = V::load_halves(rows, offsetof(Block, d));
  }
};

// Byte j of each lane as a float.
template <typename V>
typename V::Float lane_byte(typename V::Bytes x, std::size_t j) {
  switch (j) {
    case 0:
      return V::template unsigned_byte<0>(x);
    case 1:
      return V::template unsigned_byte<1>(x);
    case 2:
      return V::template unsigned_byte<2>(x);
    default:
      return V::template unsigned_byte<3>(x);
  }
}

// The first 16 bytes of Q4_K and Q5_K: d, dmin and twelve bytes with eight 6-bit scales and mins. The last four bytes
// hold the low four bits of scales and mins 4 to 7, their high two bits are on top of scales and mins 0 to 3.
template <typename V>
void unpack_scales(const std::uint8_t* const* rows, PanelBlock<V, 1>* out) {
  using Bytes = typename V::Bytes;
  using Float = typename V::Float;
  Bytes header[4];
  V::load_transposed(rows, 0, header);
  const Float d = V::low_halves(header[0]);
  const Float dmin = V::high_halves(header[0]);
  const Bytes scales[2] = {V::template bits<0, 6>(header[1]),
                           V::template insert<4>(V::template bits<0, 4>(header[3]), V::template bits<6, 2>(header[1]))};
  const Bytes mins[2] = {V::template bits<0, 6>(header[2]),
                         V::template insert<4>(V::template bits<4, 4>(header[3]), V::template bits<6, 2>(header[2]))};
  for (std::size_t j = 0; j < 8; ++j) {
    out[j].scale[0] = V::mul(d, lane_byte<V>(scales[j / 4], j % 4));
    out[j].offset[0] = V::mul(dmin, lane_byte<V>(mins[j / 4], j % 4));
  }
}

template <typename V>
struct Q4_K {
  using Block = BlockQ4_K;
  static constexpr int bits = 4;
  static constexpr int halves = 1;
  static constexpr bool has_offset = true;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, PanelBlock<V, halves>* out) {
    unpack_scales<V>(rows, out);
    for (std::size_t j = 0; j < 8; j += 2) {
      for (std::size_t k = 0; k < 8; k += 4) {
        typename V::Bytes packed[4];
        V::load_transposed(rows, offsetof(Block, nibbles) + 16 * j + 4 * k, packed);
        for (std::size_t i = 0; i < 4; ++i) {
          out[j].codes[k + i] = V::template bits<0, 4>(packed[i]);
          out[j + 1].codes[k + i] = V::template bits<4, 4>(packed[i]);
        }
      }
    }
  }
};

template <typename V>
struct Q5_K {
  using Block = BlockQ5_K;
  static constexpr int bits = 5;
  static constexpr int halves = 1;
  static constexpr bool has_offset = true;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, PanelBlock<V, halves>* out) {
    unpack_scales<V>(rows, out);
    typename V::Bytes high[8];
    V::load_transposed(rows, offsetof(Block, high), high);
    V::load_transposed(rows, offsetof(Block, high) + 16, high + 4);
    unpack_pair<0>(rows, high, out);
    unpack_pair<2>(rows, high, out);
    unpack_pair<4>(rows, high, out);
    unpack_pair<6>(rows, high, out);
  }

  template <int j>
  static void unpack_pair(const std::uint8_t* const* rows, const typename V::Bytes* high, PanelBlock<V, halves>* out) {
    for (std::size_t k = 0; k < 8; k += 4) {
      typename V::Bytes packed[4];
      V::load_transposed(rows, offsetof(Block, nibbles) + 16 * j + 4 * k, packed);
      for (std::size_t i = 0; i < 4; ++i) {
        out[j].codes[k + i] =
            V::template insert<4>(V::template bits<0, 4>(packed[i]), V::template bits<j, 1>(high[k + i]));
        out[j + 1].codes[k + i] =
            V::template insert<4>(V::template bits<4, 4>(packed[i]), V::template bits<j + 1, 1>(high[k + i]));
      }
    }
  }
};

template <typename V>
struct Q6_K {
  using Block = BlockQ6_K;
  static constexpr int bits = 6;
  static constexpr int halves = 2;
  static constexpr bool has_offset = true;
  static constexpr std::size_t blocks = 8;

  static void unpack(const std::uint8_t* const* rows, PanelBlock<V, halves>* out) {
    const typename V::Float d = V::load_halves(rows, offsetof(Block, d));
    typename V::Bytes scales[4];
    V::load_transposed(rows, offsetof(Block, scales), scales);
    for (int i = 0; i < 4; ++i) {  // four scales serve two blocks
      set_scale(out[2 * i], 0, V::mul(d, V::template signed_byte<0>(scales[i])));
      set_scale(out[2 * i], 1, V::mul(d, V::template signed_byte<1>(scales[i])));
      set_scale(out[2 * i + 1], 0, V::mul(d, V::template signed_byte<2>(scales[i])));
      set_scale(out[2 * i + 1], 1, V::mul(d, V::template signed_byte<3>(scales[i])));
    }
    for (std::size_t half = 0; half < 2; ++half) {
      for (std::size_t k = 0; k < 8; k += 4) {
        typename V::Bytes a[4];
        typename V::Bytes b[4];
        typename V::Bytes high[4];
        V::load_transposed(rows, offsetof(Block, low) + 64 * half + 4 * k, a);
        V::load_transposed(rows, offsetof(Block, low) + 64 * half + 32 + 4 * k, b);
        V::load_transposed(rows, offsetof(Block, high) + 32 * half + 4 * k, high);
        PanelBlock<V, halves>* quarter = out + 4 * half;
        for (std::size_t i = 0; i < 4; ++i) {
          quarter[0].codes[k + i] =
              V::template insert<4>(V::template bits<0, 4>(a[i]), V::template bits<0, 2>(high[i]));
          quarter[1].codes[k + i] =
              V::template insert<4>(V::template bits<0, 4>(b[i]), V::template bits<2, 2>(high[i]));
          quarter[2].codes[k + i] =
              V::template insert<4>(V::template bits<4, 4>(a[i]), V::template bits<4, 2>(high[i]));
          quarter[3].codes[k + i] =
              V::template insert<4>(V::template bits<4, 4>(b[i]), V::template bits<6, 2>(high[i]));
        }
      }
    }
  }

  static void set_scale(PanelBlock<V, halves>& block, int half, typename V::Float scale) {
    block.scale[half] = scale;
    block.offset[half] = V::mul(scale, V::set(32.0F));
  }
};

// T tokens, whose activation rows are `stride` blocks apart, over `n` blocks of the panel.
template <typename V, typename Type, int T>
void dot_panel(const PanelBlock<V, Type::halves>* panel, std::size_t n, const ActivationBlock* x, std::size_t stride,
               typename V::Float* acc) {
  using Float = typename V::Float;
  Float sums[T];
  for (int t = 0; t < T; ++t) sums[t] = acc[t];
  for (std::size_t b = 0; b < n; ++b, ++panel, ++x) {
    const std::int8_t* q[T];
    for (int t = 0; t < T; ++t) q[t] = x[t * stride].q;
    if constexpr (Type::halves == 1) {
      Float dots[T];
      V::template dot<Type::bits, 0, 8>(panel->codes, q, dots);
      for (int t = 0; t < T; ++t) {
        const ActivationBlock& block = x[t * stride];
        sums[t] = V::fma(panel->scale[0], V::mul(dots[t], V::set(block.scale)), sums[t]);
        if constexpr (Type::has_offset) {
          sums[t] = V::fnma(panel->offset[0], V::add(V::set(block.sum[0]), V::set(block.sum[1])), sums[t]);
        }
      }
    } else {
      static_assert(Type::has_offset);
      Float first[T];
      Float second[T];
      V::template dot<Type::bits, 0, 4>(panel->codes, q, first);
      V::template dot<Type::bits, 4, 8>(panel->codes, q, second);
      for (int t = 0; t < T; ++t) {
        const ActivationBlock& block = x[t * stride];
        const Float both = V::fma(panel->scale[1], second[t], V::mul(panel->scale[0], first[t]));
        sums[t] = V::fma(both, V::set(block.scale), sums[t]);
        sums[t] = V::fnma(panel->offset[0], V::set(block.sum[0]), sums[t]);
        sums[t] = V::fnma(panel->offset[1], V::set(block.sum[1]), sums[t]);
      }
    }
  }
  for (int t = 0; t < T; ++t) acc[t] = sums[t];
}

// Fetches what the panel `panels_ahead` of here will read; at the end of these rows, the beginning of the next tile's.
// The hardware's own prefetching does not follow so many short rows at once. Past the last tile the address may lie
// outside the weights, which a prefetch may: hence the arithmetic on integers.
template <typename V, std::size_t panel_bytes>
void prefetch(const std::uint8_t* const* rows, std::size_t rest_of_row, std::size_t row_bytes) {
  constexpr std::size_t panels_ahead = 3;
  constexpr std::size_t line = 64;
  constexpr std::size_t ahead = panels_ahead * panel_bytes;
  const std::size_t offset = ahead < rest_of_row ? ahead : ahead + (V::width - 1) * row_bytes;
  for (std::size_t i = 0; i < V::width; ++i) {
    const std::uintptr_t start = reinterpret_cast<std::uintptr_t>(rows[i]) + offset;
    for (std::size_t at = 0; at < panel_bytes; at += line) {
      __builtin_prefetch(reinterpret_cast<const void*>(start + at));
    }
  }
}

template <typename V, typename Type>
void matmul_quantized(const MatmulArgs& args) {
  using Float = typename V::Float;
  constexpr std::size_t block_bytes = sizeof(typename Type::Block);
  constexpr std::size_t blocks_at_once = panel_blocks / Type::blocks;
  const std::size_t stored_blocks = args.cols / (32 * Type::blocks);
  const std::size_t stride = args.cols / 32;
  assert(stored_blocks * Type::blocks == stride && stride * 32 == args.cols);
  const auto* weights = static_cast<const std::uint8_t*>(args.weights);
  const auto* activations = static_cast<const ActivationBlock*>(args.activations);

  for (std::size_t r = 0; r < args.rows; r += V::width) {
    const std::size_t rows = args.rows - r < V::width ? args.rows - r : V::width;
    for (std::size_t t = 0; t < args.tokens; t += token_tile) {
      const std::size_t tokens = args.tokens - t < token_tile ? args.tokens - t : token_tile;
      const std::uint8_t* lane[V::width];  // lanes without a row of their own repeat the last one
      for (std::size_t i = 0; i < V::width; ++i) {
        lane[i] = weights + (r + (i < rows ? i : rows - 1)) * stored_blocks * block_bytes;
      }
      Float acc[token_tile];
      for (std::size_t i = 0; i < tokens; ++i) acc[i] = V::set(0.0F);

      for (std::size_t b = 0; b < stored_blocks; b += blocks_at_once) {
        const std::size_t n = stored_blocks - b < blocks_at_once ? stored_blocks - b : blocks_at_once;
        prefetch<V, blocks_at_once * block_bytes>(lane, (stored_blocks - b) * block_bytes, stored_blocks * block_bytes);
        PanelBlock<V, Type::halves> panel[panel_blocks];
        for (std::size_t i = 0; i < n; ++i) {
          Type::unpack(lane, panel + i * Type::blocks);
          for (std::size_t j = 0; j < V::width; ++j) lane[j] += block_bytes;
        }
        const ActivationBlock* x = activations + t * stride + b * Type::blocks;
        std::size_t i = 0;
        for (; i + 4 <= tokens; i += 4) {
          dot_panel<V, Type, 4>(panel, n * Type::blocks, x + i * stride, stride, acc + i);
        }
        for (; i < tokens; ++i) dot_panel<V, Type, 1>(panel, n * Type::blocks, x + i * stride, stride, acc + i);
      }
      for (std::size_t i = 0; i < tokens; ++i) {
        store_part<V>(args.out + (t + i) * args.out_stride + r, acc[i], rows);
      }
    }
  }
}

}  // namespace gemlet::kernels::simd
