#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/blocks.hpp"
#include "kernels/dtype.hpp"

// Kernels: raw pointers and sizes, no allocation, no threads, no failure. One table per instruction set; scalar.cpp is
// the oracle that every other table is tested against.
//
// Contract of every kernel: an output element depends only on its own inputs, never on how many rows or tokens are
// computed in the same call or where a buffer happens to lie. Prefill of n tokens, n single steps and a batch of n
// sequences therefore give the same bits, and so does any number of threads.
namespace gemlet::kernels {

/// out[t * out_stride + r] = dot(weight row r, activation row t) for r < rows, t < tokens.
/// `weights` holds `rows` rows of `cols` values in the type's own layout, `row_bytes` apart: a slice of a wider matrix
/// takes the first columns of each row. With `row_ids`, output r is that of weight row row_ids[r], and only the ids'
/// rows are read. `activations` holds `tokens` rows: float[cols] for f32, f16 and bf16 weights,
/// ActivationBlock[cols / 32] for quantised ones.
struct MatmulArgs {
  const void* weights;
  const void* activations;
  float* out;
  std::size_t row_bytes;
  std::size_t rows;
  std::size_t cols;
  std::size_t tokens;
  std::size_t out_stride;
  const std::uint32_t* row_ids = nullptr;

  std::size_t row(std::size_t r) const { return row_ids == nullptr ? r : row_ids[r]; }
};

/// out[c] = sum_i factors[i] * weight row row_ids[i], column c, for i < rows in increasing order and c < cols: a
/// product with a transposed matrix most of whose inputs are zero. Rows are `row_bytes` apart.
struct CombineArgs {
  const void* weights;
  const std::uint32_t* row_ids;
  const float* factors;
  float* out;
  std::size_t row_bytes;
  std::size_t rows;
  std::size_t cols;
};

struct WeightKernels {
  void (*dequantize)(const void* row, float* out, std::size_t n);  ///< n values, a multiple of the block
  void (*matmul)(const MatmulArgs& args);
  bool quantized_activations;  ///< true: activations are ActivationBlock
  void (*combine)(const CombineArgs& args);
};

/// Cached keys or values of consecutive positions for one KV head. Row i, of head_dim elements, starts at
/// data + i * head_dim elements; in an int8 cache it stands for scales[i] times its elements.
struct CacheRows {
  const void* data;
  const float* scales;  ///< null but for int8
};

/// acc[q * head_dim + d] += sum_i weights[q * stride + i] * element d of row i, positions i in increasing order; the
/// scales of the rows are the caller's to put into the weights.
struct AccumulateArgs {
  const float* weights;
  std::size_t stride;
  std::size_t queries;
  const void* values;
  std::size_t positions;
  std::size_t head_dim;
  float* acc;
};

/// One place of a depthwise convolution: out[c] = sum_i weights[i * channels + c] * taps[i][c] for c < channels, i in
/// increasing order. A null tap lies in the padding and counts for nothing.
struct DepthwiseArgs {
  const float* weights;
  const float* const* taps;
  float* out;
  std::size_t count;  ///< of taps
  std::size_t channels;
};

struct CacheKernels {
  /// Query rows (float[cols], as activations) times consecutive key rows (of the cache's type, as weights), without
  /// their scales.
  void (*scores)(const MatmulArgs& args);
  void (*accumulate)(const AccumulateArgs& args);
  /// float to cache type, rounded to nearest even. int8: *scale = max|x| / 127, and a row with NaN or infinity gets a
  /// NaN scale, as in quantize_activations; every table gives the same bits. Other types leave `scale` alone.
  void (*store)(const float* x, std::size_t n, void* row, float* scale);
};

/// The densest multiply-adds that the instruction set allows, on data in the first cache: the ceilings that products of
/// weights are measured against. Each goes `rounds` times over peak_data_bytes bytes, of any value, aligned for floats;
/// it returns the number of multiply-adds, and a sum in *out so that they count as needed.
struct PeakKernels {
  using Fn = std::size_t (*)(const std::uint8_t* data, std::size_t rounds, float* out);
  Fn bytes;       ///< of 8-bit codes: each sum in 32 bits
  Fn half_bytes;  ///< of 4-bit codes: where there are 16-bit sums, eight products fit one
  Fn floats;
};
inline constexpr std::size_t peak_data_bytes = 8192;

struct Kernels {
  const char* name;                         ///< as in tables.hpp: "scalar", "avx2", "neon_dotprod", ...
  WeightKernels weights[dtype_table_size];  ///< indexed by DType; unused ids are null
  PeakKernels peak;
  CacheKernels cache_f16;
  CacheKernels cache_f32;
  CacheKernels cache_int8;

  /// n is a multiple of 32. scale = max|x| / 127, q = round-to-nearest-even(x / scale); a block with NaN or infinity
  /// gets a NaN scale and sum, so that bad numbers surface instead of vanishing; one whose scale would be denormal is
  /// zero. Every table gives the same bits.
  void (*quantize_activations)(const float* x, ActivationBlock* out, std::size_t n);

  float (*mean_square)(const float* x, std::size_t n);
  /// out = x / sqrt(mean(x^2) + eps) * weight; a null weight means ones. out may be x.
  void (*rms_norm)(const float* x, const float* weight, float eps, float* out, std::size_t n);
  /// out = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias. out may be x.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float eps, float* out, std::size_t n);
  /// In place; rotates pairs (x[i], x[i + n/2]) by the angles whose cos/sin are given for i < n/2.
  void (*rope)(float* x, const float* cos, const float* sin, std::size_t n);
  /// A softmax over a row that comes in pieces, n > 0 scores at a time: *max grows to the largest score so far, x
  /// becomes e^(x - max), and *sum becomes the sum of all such weights so far. Returns e^(old max - max), which what
  /// was summed with earlier weights must be multiplied by. Begins with *max = -infinity, *sum = 0. A NaN reaches the
  /// sum.
  float (*softmax_piece)(float* x, std::size_t n, float* max, float* sum);
  /// gate[i] = gelu_tanh(gate[i]) * up[i]; gelu_tanh(x) = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). A null `up`
  /// means ones.
  void (*gelu_mul)(float* gate, const float* up, std::size_t n);
  /// x[i] = x[i] / (1 + e^-gate[i]). `gate` may be x: that is SiLU.
  void (*sigmoid_mul)(float* x, const float* gate, std::size_t n);
  void (*depthwise)(const DepthwiseArgs& args);
  /// gate = max(gate - (mean + multiplier * population standard deviation), 0).
  void (*gaussian_topk)(float* gate, float multiplier, std::size_t n);
  void (*axpy)(float a, const float* x, float* y, std::size_t n);  ///< y += a * x
  void (*add)(const float* x, float* y, std::size_t n);            ///< y += x
  void (*mul)(const float* x, float* y, std::size_t n);            ///< y *= x
  void (*scale)(float a, float* x, std::size_t n);                 ///< x *= a
  void (*soft_cap)(float* x, float cap, std::size_t n);            ///< x = cap * tanh(x / cap)
};

const Kernels& scalar() noexcept;

/// The best table that this CPU runs. Probed once.
const Kernels& best() noexcept;

/// Every table that this CPU runs, best first, scalar last; for tests, benchmarks and a choice by name.
std::size_t available(const Kernels* const** tables) noexcept;

/// float -> stored type, for the converter; n is a multiple of the type's block. Bit-exact with ggml's reference
/// quantisers (ggml-quants.c, quantize_row_*_ref). Null for a type that gemlet reads but does not write.
using QuantizeFn = void (*)(const float* x, void* row, std::size_t n);
QuantizeFn find_quantizer(DType type) noexcept;

}  // namespace gemlet::kernels
