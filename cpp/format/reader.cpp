#include "format/reader.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "gemlet/error.hpp"
#include "kernels/kernels.hpp"

namespace gemlet {
namespace {

/// A key of llama.cpp's converter, and how others (Ollama's, older ones) spell it.
constexpr std::pair<std::string_view, std::string_view> spellings[] = {
    {"attention.key_length", "head_dim"},           {"rope.freq_base", "rope.global.freq_base"},
    {"rope.freq_base_swa", "rope.local.freq_base"}, {"rope.freq_base_swa", "rope.freq_base_local"},
    {"rope.freq_base_swa", "rope.local_freq_base"},
};

std::string shape_string(std::span<const std::size_t> shape) {
  std::string text = "[";
  for (const std::size_t dimension : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(dimension);
  return text + "]";
}

std::string range_string(std::size_t low, std::size_t high) {
  return std::to_string(low) + " to " + std::to_string(high);
}

}  // namespace

Reader::Reader(const GgufFile& file, std::string_view architecture)
    : file_(file), prefix_(std::string(architecture) + ".") {}

void Reader::fail(const std::string& what) const {
  throw Error(Error::Kind::format, file_.path().string() + ": " + what);
}

std::string Reader::full_key(std::string_view key) const {
  std::string standard = prefix_ + std::string(key);
  if (file_.contains(standard)) return standard;
  for (const auto& [known, other] : spellings) {
    if (known != key) continue;
    if (std::string spelled = prefix_ + std::string(other); file_.contains(spelled)) return spelled;
  }
  return standard;
}

bool Reader::has_key(std::string_view key) const { return file_.contains(full_key(key)); }

std::size_t Reader::bounded(const std::string& name, std::size_t value, std::size_t low, std::size_t high) const {
  if (value < low || value > high) {
    fail(name + " is " + std::to_string(value) + ", expected " + range_string(low, high));
  }
  return value;
}

std::size_t Reader::size(std::string_view key, std::size_t low, std::size_t high) const {
  const std::string name = full_key(key);
  return bounded(name, file_.get_u32(name), low, high);
}

std::size_t Reader::size(std::string_view key, std::size_t low, std::size_t high, std::size_t fallback) const {
  if (has_key(key)) return size(key, low, high);
  return bounded(full_key(key) + " is missing; its default", fallback, low, high);
}

std::vector<std::size_t> Reader::sizes(std::string_view key, std::size_t count, std::size_t low,
                                       std::size_t high) const {
  const std::string name = full_key(key);
  const std::vector<std::uint32_t> stored = file_.get_u32s(name, count);
  std::vector<std::size_t> values;
  values.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    values.push_back(bounded(name + " of layer " + std::to_string(i), stored[i], low, high));
  }
  return values;
}

std::vector<std::size_t> Reader::sizes(std::string_view key, std::size_t count, std::size_t low, std::size_t high,
                                       std::size_t fallback) const {
  if (has_key(key)) return sizes(key, count, low, high);
  return std::vector<std::size_t>(count, bounded(full_key(key) + " is missing; its default", fallback, low, high));
}

float Reader::positive(std::string_view key) const {
  const std::string name = full_key(key);
  const float value = file_.get_f32(name);
  if (!(value > 0)) fail(name + " is " + std::to_string(value) + ", expected a positive number");
  return value;
}

float Reader::positive(std::string_view key, float fallback) const { return has_key(key) ? positive(key) : fallback; }

std::optional<float> Reader::optional_positive(std::string_view key) const {
  if (!has_key(key) || file_.get_f32(full_key(key)) == 0) return std::nullopt;
  return positive(key);
}

bool Reader::flag(std::string_view key, bool fallback) const { return file_.find_bool(full_key(key), fallback); }

std::string_view Reader::string(std::string_view key, std::string_view fallback) const {
  return file_.find_string(full_key(key), fallback);
}

std::vector<float> Reader::numbers(std::string_view key, std::size_t count) const {
  return file_.get_f32s(full_key(key), count);
}

std::vector<bool> Reader::sliding_layers(std::size_t layers, std::size_t period) const {
  const std::string key = full_key("attention.sliding_window_pattern");
  if (file_.contains(key)) {
    if (file_.is_array(key)) return file_.get_bools(key, layers);
    period = file_.get_u32(key);
  }
  std::vector<bool> sliding(layers);
  for (std::size_t i = 0; i < layers; ++i) sliding[i] = period == 0 || (i + 1) % period != 0;
  return sliding;
}

bool Reader::has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }

const Tensor& Reader::tensor(const std::string& name, std::initializer_list<std::size_t> shape) const {
  const Tensor* found = file_.find_tensor(name);
  if (found == nullptr) fail("tensor " + name + " is missing");
  const bool same = found->rank == static_cast<int>(shape.size()) &&
                    std::equal(shape.begin(), shape.end(), found->shape.begin(),
                               [](std::size_t a, std::int64_t b) { return static_cast<std::int64_t>(a) == b; });
  if (!same) {
    fail("tensor " + name + " has shape " + found->shape_string() + ", expected " +
         shape_string(std::vector<std::size_t>(shape)));
  }
  return *found;
}

std::size_t Reader::dimension(const std::string& name, int rank, int axis, std::size_t low, std::size_t high) const {
  const Tensor* found = file_.find_tensor(name);
  if (found == nullptr) fail("tensor " + name + " is missing");
  if (found->rank != rank) {
    fail("tensor " + name + " has shape " + found->shape_string() + ", expected " + std::to_string(rank) +
         " dimensions");
  }
  const auto value = static_cast<std::size_t>(found->shape[static_cast<std::size_t>(axis)]);
  return bounded((rank == 2 && axis == 0 ? "rows of " : "dimension " + std::to_string(axis) + " of ") + name, value,
                 low, high);
}

Matrix Reader::matrix(const std::string& name, std::size_t rows, std::size_t cols) const {
  const Tensor& stored = tensor(name, {rows, cols});
  return Matrix::packed(stored.data, stored.type, rows, cols);
}

std::vector<Matrix> Reader::stack(const std::string& name, std::size_t count, std::size_t rows,
                                  std::size_t cols) const {
  const Tensor& stored = tensor(name, {count, rows, cols});
  std::vector<Matrix> matrices;
  for (std::size_t i = 0; i < count; ++i) {
    matrices.push_back(Matrix::packed(stored.data + i * rows * stored.row_bytes(), stored.type, rows, cols));
  }
  return matrices;
}

std::vector<float> Reader::floats(const std::string& name, std::initializer_list<std::size_t> shape) const {
  const Tensor& stored = tensor(name, shape);
  std::vector<float> values(static_cast<std::size_t>(stored.elements()));
  const auto cols = static_cast<std::size_t>(stored.cols());
  const auto dequantize = kernels::scalar().weights[static_cast<std::size_t>(stored.type)].dequantize;
  for (std::size_t row = 0; row * cols < values.size(); ++row) {
    dequantize(stored.data + row * stored.row_bytes(), values.data() + row * cols, cols);
  }
  if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
    fail("tensor " + name + " has values that are not finite numbers");
  }
  return values;
}

FileRows Reader::rows(const std::string& name, std::size_t rows, std::size_t cols) const {
  const Tensor& stored = tensor(name, {rows, cols});
  return {file_.part_of(stored).file, matrix(name, rows, cols)};
}

}  // namespace gemlet
