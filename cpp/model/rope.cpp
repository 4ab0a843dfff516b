#include "model/rope.hpp"

#include <cmath>
#include <utility>

namespace gemlet {

RopeTable RopeTable::make(float base, std::size_t head_dim, float factor) {
  RopeTable table;
  for (std::size_t i = 0; i < head_dim / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    table.inverse_frequencies.push_back(1.0F / std::pow(base, exponent) / factor);
  }
  return table;
}

RopeAngles::RopeAngles(std::vector<RopeTable> tables) : tables_(std::move(tables)) {
  for (const RopeTable& table : tables_) {
    begin_.push_back(stride_);
    stride_ += 2 * table.inverse_frequencies.size();
  }
}

// In float32 up to the angle, as the reference computes it; its cosine and sine are then exact to rounding.
void RopeAngles::fill_row(float position, std::size_t row) {
  float* out = angles_.data() + row * stride_;
  for (const RopeTable& table : tables_) {
    const std::size_t half = table.inverse_frequencies.size();
    for (std::size_t i = 0; i < half; ++i) {
      const double theta = static_cast<double>(position * table.inverse_frequencies[i]);
      out[i] = static_cast<float>(std::cos(theta));
      out[half + i] = static_cast<float>(std::sin(theta));
    }
    out += 2 * half;
  }
}

}  // namespace gemlet
