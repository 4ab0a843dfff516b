#include "engine/ceiling.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>

#include "engine/cpu.hpp"
#include "gemlet/error.hpp"
#include "tensor/compute.hpp"

namespace gemlet {
namespace {

constexpr std::size_t cols = 2048;
constexpr std::size_t max_rows = 2048;  // of a matrix that many tokens are multiplied with
constexpr std::size_t many = 128;
constexpr std::size_t read_chunk = 1 << 16;
constexpr std::size_t peak_rounds = 4096;
constexpr int enough_passes = 5;
constexpr double enough_seconds = 0.2;
constexpr double too_many_seconds = 1;  // for one pass or two to be enough

// A small normal number in every format: 2.4e-12 as float and bfloat, 0.065 as half. Denormals would be slow.
constexpr int filling = 0x2c;

template <typename Pass>
double best_seconds(const Pass& pass) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
  double best = std::numeric_limits<double>::infinity();
  double all = 0;
  for (int i = 0; all < too_many_seconds && (i < enough_passes || all < enough_seconds); ++i) {
    const Clock::time_point start = Clock::now();
    pass();
    const double now = seconds(Clock::now() - start);
    best = std::min(best, now);
    all += now;
  }
  return best;
}

std::uint64_t sum_of(const std::byte* data, std::size_t bytes) {
  const auto* words = reinterpret_cast<const std::uint64_t*>(data);
  std::uint64_t sums[8] = {};
  for (std::size_t i = 0; i + 8 <= bytes / sizeof(std::uint64_t); i += 8) {
    for (std::size_t j = 0; j < 8; ++j) sums[j] += words[i + j];
  }
  return sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7];
}

}  // namespace

Ceiling::Ceiling(const std::string& table, int threads, std::size_t buffer_bytes)
    : kernels_(choose_kernels(table)), pool_(threads == 0 ? usable_cores() : threads), buffer_(buffer_bytes) {
  constexpr std::size_t least = 1 << 21;  // a few rows of the widest type, and peak_data_bytes for each of 256 threads
  if (buffer_bytes < least) {
    throw Error(Error::Kind::argument, "the buffer has " + std::to_string(buffer_bytes) + " bytes, expected at least " +
                                           std::to_string(least));
  }
  pool_.parallel_for(buffer_.size(), read_chunk, [&](std::size_t begin, std::size_t end, int) {
    std::memset(buffer_.as<std::byte>() + begin, filling, end - begin);
  });
}

std::vector<DType> Ceiling::types() const {
  std::vector<DType> types;
  for (std::uint32_t id = 0; id < dtype_table_size; ++id) {
    if (kernels_.weights[id].matmul != nullptr) types.push_back(static_cast<DType>(id));
  }
  return types;
}

double Ceiling::read_bandwidth() {
  std::atomic<std::uint64_t> sum{0};  // so that the reading counts as needed
  const double seconds = best_seconds([&] {
    pool_.parallel_for(buffer_.size(), read_chunk, [&](std::size_t begin, std::size_t end, int) {
      sum += sum_of(buffer_.as<std::byte>() + begin, end - begin);
    });
  });
  return static_cast<double>(buffer_.size()) / seconds;
}

double Ceiling::multiply_adds(kernels::PeakKernels::Fn peak) {
  const auto threads = static_cast<std::size_t>(pool_.threads());
  constexpr std::size_t chunks_per_thread = 16;
  std::atomic<std::size_t> done{0};
  std::atomic<float> sum{0};
  const double seconds = best_seconds([&] {
    done = 0;
    pool_.parallel_for(threads * chunks_per_thread, 1, [&](std::size_t, std::size_t, int thread) {
      const auto* data = buffer_.as<std::uint8_t>() + static_cast<std::size_t>(thread) * kernels::peak_data_bytes;
      float part = 0;
      done += peak(data, peak_rounds, &part);
      sum = part;
    });
  });
  return static_cast<double>(done) / seconds;
}

double Ceiling::one_token(DType type) {
  Compute compute(kernels_, pool_);
  const std::size_t row_bytes = Matrix::packed(nullptr, type, 1, cols).row_bytes;
  const Matrix weights = Matrix::packed(buffer_.as<std::byte>(), type, buffer_.size() / row_bytes, cols);
  const std::vector<float> x(cols, 1.0F);
  std::vector<float> out(weights.rows);
  const double seconds = best_seconds([&] { compute.linear({{weights, out.data()}}, x.data(), 1); });
  return static_cast<double>(weights.rows * row_bytes) / seconds;
}

double Ceiling::many_tokens(DType type) {
  Compute compute(kernels_, pool_);
  Matrix weights = Matrix::packed(buffer_.as<std::byte>(), type, max_rows, cols);
  weights.rows = std::min(weights.rows, buffer_.size() / weights.row_bytes);
  const std::size_t bytes = weights.rows * weights.row_bytes;
  const std::vector<float> x(many * cols, 1.0F);
  std::vector<float> out(many * weights.rows);
  std::size_t next = 0;
  const double seconds = best_seconds([&] {
    weights.data = buffer_.as<std::byte>() + next;
    next = next + 2 * bytes <= buffer_.size() ? next + bytes : 0;
    compute.linear({{weights, out.data()}}, x.data(), many);
  });
  return static_cast<double>(weights.rows * cols * many) / seconds;
}

}  // namespace gemlet
