#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <type_traits>
#include <utility>
#include <vector>

#include "gemlet/work.hpp"
#include "kernels/kernels.hpp"
#include "tensor/tensor.hpp"
#include "tensor/thread_pool.hpp"

namespace gemlet {

/// The steps of a forward pass that are worth several threads. Results do not depend on how many there are.
class Compute {
 public:
  Compute(const kernels::Kernels& table, ThreadPool& pool) : kernels_(table), pool_(pool) {}

  const kernels::Kernels& kernels() const { return kernels_; }
  int threads() const { return pool_.threads(); }

  /// A weight matrix and where W x goes: float[tokens][rows].
  struct Product {
    const Matrix& weights;
    float* out;
  };

  /// Several products of the same input, float[tokens][cols]; it is quantised once for all of them.
  void linear(std::initializer_list<Product> products, const float* x, std::size_t tokens);

  /// The rows of W x that are wanted, which differ from token to token: out[t * weights.rows + i] is row
  /// wanted.ids[t * weights.rows + i], for i < wanted.counts[t].
  struct WantedRows {
    const std::uint32_t* ids;
    const std::size_t* counts;
  };
  void linear_rows(const Matrix& weights, WantedRows wanted, const float* x, std::size_t tokens, float* out);

  /// out[t] = W^T x[t], float[tokens][weights.cols], for inputs of which few are not zero: x[t][wanted.ids[i]] is
  /// factors[t * weights.rows + i], for i < wanted.counts[t].
  void combine_rows(const Matrix& weights, WantedRows wanted, const float* factors, std::size_t tokens, float* out);

  /// body(token) for each token, or body(token, thread).
  template <typename Body>
  void each_token(std::size_t tokens, const Body& body) {
    parallel_for(tokens, 4, [&](std::size_t begin, std::size_t end, int thread) {
      for (std::size_t t = begin; t < end; ++t) {
        if constexpr (std::is_invocable_v<Body, std::size_t, std::size_t>) {
          body(t, static_cast<std::size_t>(thread));
        } else {
          body(t);
        }
      }
    });
  }

  /// body(begin, end, thread) for pieces of [0, count) of at least `chunk`.
  void parallel_for(std::size_t count, std::size_t chunk,
                    const std::function<void(std::size_t begin, std::size_t end, int thread)>& body) {
    if (count > chunk) ++work_.barriers;
    pool_.parallel_for(count, chunk, body);
  }

  /// Memory for one step, float[floats]; valid until the next call of this.
  float* scratch(std::size_t floats) {
    scratch_.resize(std::max(scratch_.size(), floats));
    return scratch_.data();
  }

  /// What was done since the last call of this.
  Work take_work() { return std::exchange(work_, {}); }

 private:
  void quantize(const float* x, std::size_t tokens, std::size_t cols);
  /// What `kernel` takes for token t of x: the row itself, or what quantize() made of it.
  const void* activations(const kernels::WeightKernels& kernel, const float* x, std::size_t t, std::size_t cols) const;
  /// Counts rows that are read and (row, token) pairs that are multiplied.
  void count(const Matrix& weights, std::size_t rows, std::size_t products);
  void count_wanted(const Matrix& weights, WantedRows wanted, std::size_t tokens);

  const kernels::Kernels& kernels_;
  ThreadPool& pool_;
  Work work_;
  std::vector<kernels::ActivationBlock> quantized_;
  std::vector<float> scratch_;
};

}  // namespace gemlet
