#include "tensor/compute.hpp"

#include <algorithm>
#include <numeric>

namespace gemlet {
namespace {

// Rows of a weight matrix that a thread takes at a time. For many tokens as many as leave room in the second cache for
// the activations of a tile of tokens, as the kernel passes over the rows for one such tile after the other. For few
// tokens, where memory is all that counts, long runs, whose reading the kernel starts ahead. In both cases several for
// each thread, so that a slow core never holds the others up for long.
std::size_t rows_per_chunk(const Matrix& w, std::size_t tokens, int threads) {
  constexpr std::size_t cached = std::size_t{96} << 10;
  const std::size_t most = tokens <= 16 ? 1024 : std::min<std::size_t>(cached / w.row_bytes, 64);
  const std::size_t share = w.rows / (static_cast<std::size_t>(threads) * 8);
  return std::max<std::size_t>(std::min(most, share) / 16 * 16, 16);
}

constexpr std::size_t block = 32;

}  // namespace

void Compute::quantize(const float* x, std::size_t tokens, std::size_t cols) {
  quantized_.resize(std::max(quantized_.size(), tokens * (cols / block)));
  each_token(tokens, [&](std::size_t t) {
    kernels_.quantize_activations(x + t * cols, quantized_.data() + t * (cols / block), cols);
  });
}

const void* Compute::activations(const kernels::WeightKernels& kernel, const float* x, std::size_t t,
                                 std::size_t cols) const {
  if (kernel.quantized_activations) return quantized_.data() + t * (cols / block);
  return x + t * cols;
}

void Compute::count(const Matrix& weights, std::size_t rows, std::size_t products) {
  work_.weight_bytes += weights.first_rows(rows).bytes();
  work_.multiply_adds += products * weights.cols;
}

void Compute::count_wanted(const Matrix& weights, WantedRows wanted, std::size_t tokens) {
  const std::size_t products = std::accumulate(wanted.counts, wanted.counts + tokens, std::size_t{0});
  count(weights, std::min(products, weights.rows), products);
}

void Compute::linear(std::initializer_list<Product> products, const float* x, std::size_t tokens) {
  const std::size_t cols = products.begin()->weights.cols;
  const bool quantized = std::any_of(products.begin(), products.end(), [&](const Product& p) {
    return kernels_.weights[static_cast<std::size_t>(p.weights.type)].quantized_activations;
  });
  if (quantized) quantize(x, tokens, cols);

  const auto chunk_rows = [&](const Product& p) { return rows_per_chunk(p.weights, tokens, threads()); };
  const auto chunks_of = [&](const Product& p) { return (p.weights.rows + chunk_rows(p) - 1) / chunk_rows(p); };
  std::size_t chunks = 0;
  for (const Product& p : products) {
    chunks += chunks_of(p);
    count(p.weights, p.weights.rows, p.weights.rows * tokens);
  }
  parallel_for(chunks, 1, [&](std::size_t begin, std::size_t end, int) {
    for (std::size_t chunk = begin; chunk < end; ++chunk) {
      std::size_t index = chunk;
      const Product* p = products.begin();
      for (std::size_t n; index >= (n = chunks_of(*p)); ++p) index -= n;
      const Matrix& w = p->weights;
      const std::size_t row = index * chunk_rows(*p);
      const kernels::WeightKernels& kernel = kernels_.weights[static_cast<std::size_t>(w.type)];
      kernel.matmul({.weights = w.row(row),
                     .activations = activations(kernel, x, 0, cols),
                     .out = p->out + row,
                     .row_bytes = w.row_bytes,
                     .rows = std::min(chunk_rows(*p), w.rows - row),
                     .cols = w.cols,
                     .tokens = tokens,
                     .out_stride = w.rows});
    }
  });
}

void Compute::linear_rows(const Matrix& weights, WantedRows wanted, const float* x, std::size_t tokens, float* out) {
  constexpr std::size_t rows = 64;
  const kernels::WeightKernels& kernel = kernels_.weights[static_cast<std::size_t>(weights.type)];
  if (kernel.quantized_activations) quantize(x, tokens, weights.cols);
  count_wanted(weights, wanted, tokens);
  const std::size_t chunks = (weights.rows + rows - 1) / rows;
  parallel_for(tokens * chunks, 1, [&](std::size_t job, std::size_t, int) {
    const std::size_t t = job / chunks;
    const std::size_t first = job % chunks * rows;
    if (first >= wanted.counts[t]) return;
    kernel.matmul({.weights = weights.data,
                   .activations = activations(kernel, x, t, weights.cols),
                   .out = out + t * weights.rows + first,
                   .row_bytes = weights.row_bytes,
                   .rows = std::min(rows, wanted.counts[t] - first),
                   .cols = weights.cols,
                   .tokens = 1,
                   .out_stride = weights.rows,
                   .row_ids = wanted.ids + t * weights.rows + first});
  });
}

void Compute::combine_rows(const Matrix& weights, WantedRows wanted, const float* factors, std::size_t tokens,
                           float* out) {
  constexpr std::size_t cols = 256;  // whole blocks of every type
  const DTypeTraits& stored = traits(weights.type);
  count_wanted(weights, wanted, tokens);
  const std::size_t chunks = (weights.cols + cols - 1) / cols;
  parallel_for(tokens * chunks, 1, [&](std::size_t job, std::size_t, int) {
    const std::size_t t = job / chunks;
    const std::size_t first = job % chunks * cols;
    kernels_.weights[static_cast<std::size_t>(weights.type)].combine(
        {.weights = weights.data + first / stored.elements * stored.bytes,
         .row_ids = wanted.ids + t * weights.rows,
         .factors = factors + t * weights.rows,
         .out = out + t * weights.cols + first,
         .row_bytes = weights.row_bytes,
         .rows = wanted.counts[t],
         .cols = std::min(cols, weights.cols - first)});
  });
}

}  // namespace gemlet
