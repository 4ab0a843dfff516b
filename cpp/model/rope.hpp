#pragma once

#include <cstddef>
#include <vector>

#include "tensor/compute.hpp"

namespace gemlet {

/// Rotary position embedding (arXiv:2104.09864) of one kind of layer. Element i of `inverse_frequencies` turns the pair
/// (x[i], x[i + head_dim / 2]) by position * inverse_frequencies[i]; 0 leaves the pair alone.
struct RopeTable {
  std::vector<float> inverse_frequencies;  // [head_dim / 2]

  /// base^(-2i / head_dim) / factor. `factor` stretches the trained context ("linear" scaling, arXiv:2306.15595).
  static RopeTable make(float base, std::size_t head_dim, float factor = 1);
};

/// Cosines and sines of the positions of a pass, one row for each token and table.
class RopeAngles {
 public:
  explicit RopeAngles(std::vector<RopeTable> tables);

  /// `position(t)` of each of the tokens.
  template <typename Position>
  void fill(Compute& compute, std::size_t tokens, const Position& position) {
    angles_.resize(std::max(angles_.size(), tokens * stride_));
    compute.each_token(tokens, [&](std::size_t t) { fill_row(static_cast<float>(position(t)), t); });
  }

  const float* cos(std::size_t table, std::size_t row) const { return angles_.data() + row * stride_ + begin_[table]; }
  const float* sin(std::size_t table, std::size_t row) const {
    return cos(table, row) + tables_[table].inverse_frequencies.size();
  }

 private:
  void fill_row(float position, std::size_t row);

  std::vector<RopeTable> tables_;
  std::vector<std::size_t> begin_;  // of each table within a row
  std::size_t stride_ = 0;
  std::vector<float> angles_;  // [rows][table][cos, sin][head_dim / 2]
};

}  // namespace gemlet
