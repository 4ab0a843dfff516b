#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>

#include "kernels/kernels.hpp"
#include "kernels/simd_float.hpp"
#include "kernels/simd_panels.hpp"

// Matrix products of quantised weights with int8 activations, written once for every instruction set (see
// simd_float.hpp for `V`, simd_formats.hpp for a `Type`). A tile is V::width weight rows, one to a lane. For few tokens
// a block is unpacked into registers and used at once; for many, 256 columns of two tiles are unpacked into panels in
// the first cache, and all tokens pass over them.
namespace gemlet::kernels::simd {

constexpr std::size_t panels = 8;  // of a tile, at a time

// A format of simd_formats.hpp as multiply_many takes it.
template <typename Format>
struct Stored : Format {
  static constexpr std::size_t block_bytes = sizeof(typename Format::Block);
  static constexpr std::size_t token_tile = 32;  // sums on the stack
};

template <typename V>
struct Tile {
  const std::uint8_t* row[V::width];  // lanes without a row of their own repeat the last one
  const std::uint8_t* next;           // where the rows after these begin
  std::size_t rows;

  Tile(const MatmulArgs& args, std::size_t first) : rows(args.rows - first < V::width ? args.rows - first : V::width) {
    const auto* begin = static_cast<const std::uint8_t*>(args.weights);
    for (std::size_t i = 0; i < V::width; ++i) {
      row[i] = begin + args.row(first + (i < rows ? i : rows - 1)) * args.row_bytes;
    }
    next = begin + V::width * args.row_bytes;
  }
};

// Fetches the rows of a call a tile ahead of their use: the hardware's own prefetching does not follow so many short
// rows at once. It stops at the last row: what lies behind may be another thread's.
class Prefetcher {
 public:
  Prefetcher(const MatmulArgs& args, std::size_t used_bytes) : args_(args), used_(used_bytes), rows_(args.rows) {
    if (args.row_ids == nullptr && args.row_bytes == used_) {  // one long row
      used_ *= rows_;
      rows_ = rows_ == 0 ? 0 : 1;
    }
    begin_row(0);
  }

  void advance(std::size_t bytes) {
    at_ += bytes;
    for (const std::uintptr_t stop = at_ < end_ ? at_ : end_; line_ < stop; line_ += line_bytes) {
      __builtin_prefetch(reinterpret_cast<const void*>(line_));
    }
    if (at_ >= end_) begin_row(at_ - end_);
  }

 private:
  static constexpr std::uintptr_t line_bytes = 64;

  // Out of line, because it is rare. After the last row nothing more is fetched.
  [[gnu::noinline]] void begin_row(std::size_t bytes) {
    if (row_ == rows_) {
      at_ = 0;
      line_ = end_ = UINTPTR_MAX;
      return;
    }
    at_ = reinterpret_cast<std::uintptr_t>(args_.weights) + args_.row(row_) * args_.row_bytes;
    line_ = at_ / line_bytes * line_bytes;
    end_ = at_ + used_;
    ++row_;
    if (bytes > 0) advance(bytes);
  }

  const MatmulArgs& args_;
  std::size_t used_;
  std::size_t rows_;
  std::size_t row_ = 0;
  std::uintptr_t at_ = 0;    // up to where the row is fetched
  std::uintptr_t line_ = 0;  // the next to fetch
  std::uintptr_t end_ = 0;   // of the row
};

template <typename V, typename Type, int T>
void multiply_few(const MatmulArgs& args) {
  constexpr std::size_t block_bytes = sizeof(typename Type::Block);
  const std::size_t stored_blocks = args.cols / (32 * Type::blocks);
  Prefetcher prefetcher(args, stored_blocks * block_bytes);
  prefetcher.advance(V::width * stored_blocks * block_bytes);
  for (std::size_t r = 0; r < args.rows; r += V::width) {
    const Tile<V> tile(args, r);
    const ActivationBlock* x[T];
    for (int t = 0; t < T; ++t) x[t] = static_cast<const ActivationBlock*>(args.activations) + t * (args.cols / 32);
    typename V::Float sums[1][T];
    for (int t = 0; t < T; ++t) sums[0][t] = V::set(0.0F);
    for (std::size_t b = 0; b < stored_blocks; ++b) {
      typename Type::Panel block[Type::blocks];
      Type::unpack(tile.row, b * block_bytes, block);
      for (std::size_t i = 0; i < Type::blocks; ++i) {
        // A few lines for each panel: of more at a time a core cannot wait for, and it would stop for them.
        prefetcher.advance(V::width * block_bytes / Type::blocks);
        const typename Type::Panel* w[1] = {block + i};
        Type::template dot<1, T>(w, x, sums);
        for (int t = 0; t < T; ++t) ++x[t];
      }
    }
    for (int t = 0; t < T; ++t) store_part<V>(args.out + t * args.out_stride + r, sums[0][t], tile.rows);
  }
}

// T tokens, whose activation rows are `stride` blocks apart, over `n` panels of R tiles.
template <typename V, typename Type, int R, int T>
void dot_panels(const typename Type::Panel (&panel)[R][panels], std::size_t n, const ActivationBlock* x,
                std::size_t stride, typename V::Float (*acc)[R]) {
  typename V::Float sums[R][T];
  for (int t = 0; t < T; ++t) {
    for (int r = 0; r < R; ++r) sums[r][t] = acc[t][r];
  }
  for (std::size_t i = 0; i < n; ++i, ++x) {
    const typename Type::Panel* w[R];
    for (int r = 0; r < R; ++r) w[r] = &panel[r][i];
    const ActivationBlock* block[T];
    for (int t = 0; t < T; ++t) block[t] = x + t * stride;
    Type::template dot<R, T>(w, block, sums);
  }
  for (int t = 0; t < T; ++t) {
    for (int r = 0; r < R; ++r) acc[t][r] = sums[r][t];
  }
}

// R tiles and up to Type::token_tile tokens.
template <typename V, typename Type, int R>
void multiply_many(const MatmulArgs& args, const Type& type, const Tile<V> (&tile)[R], std::size_t first_row,
                   std::size_t first_token, std::size_t tokens, Prefetcher& prefetcher) {
  const std::size_t block_bytes = type.block_bytes;
  const std::size_t at_once = panels / type.blocks;
  const std::size_t stored_blocks = args.cols / (32 * type.blocks);
  const std::size_t stride = args.cols / 32;
  const auto* x = static_cast<const ActivationBlock*>(args.activations) + first_token * stride;
  typename V::Float acc[Type::token_tile][R];
  for (std::size_t t = 0; t < tokens; ++t) {
    for (int r = 0; r < R; ++r) acc[t][r] = V::set(0.0F);
  }
  for (std::size_t b = 0; b < stored_blocks; b += at_once) {
    const std::size_t n = stored_blocks - b < at_once ? stored_blocks - b : at_once;
    typename Type::Panel panel[R][panels];
    for (int r = 0; r < R; ++r) {
      prefetcher.advance(V::width * n * block_bytes / 2);
      for (std::size_t i = 0; i < n; ++i) type.unpack(tile[r].row, (b + i) * block_bytes, panel[r] + i * type.blocks);
    }
    prefetcher.advance(R * V::width * n * block_bytes / 2);
    std::size_t t = 0;
    for (; t + 4 <= tokens; t += 4) {
      dot_panels<V, Type, R, 4>(panel, n * type.blocks, x + t * stride, stride, acc + t);
    }
    switch (tokens - t) {
      case 3:
        dot_panels<V, Type, R, 3>(panel, n * type.blocks, x + t * stride, stride, acc + t);
        break;
      case 2:
        dot_panels<V, Type, R, 2>(panel, n * type.blocks, x + t * stride, stride, acc + t);
        break;
      case 1:
        dot_panels<V, Type, R, 1>(panel, n * type.blocks, x + t * stride, stride, acc + t);
        break;
      default:
        break;
    }
    x += n * type.blocks;
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    for (int r = 0; r < R; ++r) {
      float* out = args.out + (first_token + t) * args.out_stride + first_row + r * V::width;
      store_part<V>(out, acc[t][r], tile[r].rows);
    }
  }
}

template <typename V, typename Type>
void multiply_tiles(const MatmulArgs& args, const Type& type) {
  const std::size_t row_bytes = args.cols / (32 * type.blocks) * type.block_bytes;
  for (std::size_t t = 0; t < args.tokens; t += Type::token_tile) {
    const std::size_t tokens = args.tokens - t < Type::token_tile ? args.tokens - t : Type::token_tile;
    Prefetcher prefetcher(args, row_bytes);
    prefetcher.advance(2 * V::width * row_bytes);
    std::size_t r = 0;
    for (; r + V::width < args.rows; r += 2 * V::width) {
      const Tile<V> tiles[2] = {Tile<V>(args, r), Tile<V>(args, r + V::width)};
      multiply_many<V, Type, 2>(args, type, tiles, r, t, tokens, prefetcher);
    }
    if (r < args.rows) multiply_many<V, Type, 1>(args, type, {Tile<V>(args, r)}, r, t, tokens, prefetcher);
  }
}

template <typename V, typename Format>
void matmul_quantized(const MatmulArgs& args) {
  using Type = Stored<Format>;
  assert(args.cols % (32 * Type::blocks) == 0);
  if (args.tokens == 1) return multiply_few<V, Type, 1>(args);
  if (args.tokens == 2) return multiply_few<V, Type, 2>(args);
  if (args.tokens == 3) return multiply_few<V, Type, 3>(args);
  multiply_tiles<V, Type>(args, {});
}

}  // namespace gemlet::kernels::simd
