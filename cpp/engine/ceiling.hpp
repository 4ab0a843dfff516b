#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/kernels.hpp"
#include "tensor/buffer.hpp"
#include "tensor/thread_pool.hpp"

namespace gemlet {

/// What this machine can do at most, and how near the products of weights come to it. Every figure is a rate per
/// second, the best of several passes: whatever disturbs a pass can only slow it down.
class Ceiling {
 public:
  /// `threads` 0: one for each physical core. Takes `buffer_bytes` of memory, which should be far more than the caches.
  /// Throws Error(argument) for an unknown kernel table and Error(memory).
  Ceiling(const std::string& table, int threads, std::size_t buffer_bytes);

  const char* kernels() const { return kernels_.name; }
  int threads() const { return pool_.threads(); }
  /// The types that the kernel table multiplies.
  std::vector<DType> types() const;

  double read_bandwidth();  ///< bytes
  double multiply_adds_of_bytes() { return multiply_adds(kernels_.peak.bytes); }
  double multiply_adds_of_half_bytes() { return multiply_adds(kernels_.peak.half_bytes); }
  double multiply_adds_of_floats() { return multiply_adds(kernels_.peak.floats); }

  /// One token times the whole buffer as weights: bytes of weights.
  double one_token(DType type);
  /// 128 tokens times matrices of 2048 columns from all over the buffer: multiply-adds.
  double many_tokens(DType type);

 private:
  double multiply_adds(kernels::PeakKernels::Fn peak);

  const kernels::Kernels& kernels_;
  ThreadPool pool_;
  Buffer buffer_;
};

}  // namespace gemlet
