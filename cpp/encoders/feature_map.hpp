#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "encoders/vision_weights.hpp"
#include "tensor/compute.hpp"

namespace gemlet {

/// A picture, or what a layer makes of it: float[height][width][channels].
struct FeatureMap {
  FeatureMap(std::size_t map_height, std::size_t map_width, std::size_t map_channels)
      : height(map_height), width(map_width), channels(map_channels), values(map_height * map_width * map_channels) {}

  float* row(std::size_t y) { return values.data() + y * width * channels; }
  const float* row(std::size_t y) const { return values.data() + y * width * channels; }

  std::size_t height, width, channels;
  std::vector<float> values;
};

/// The rows of a map from `first` on that are at hand.
struct FeatureRows {
  const float* values;
  std::size_t first;
  std::size_t height, width, channels;  ///< of the whole map

  explicit FeatureRows(const FeatureMap& map)
      : values(map.values.data()), first(0), height(map.height), width(map.width), channels(map.channels) {}
  FeatureRows(const float* rows, std::size_t from, std::size_t map_height, std::size_t map_width,
              std::size_t map_channels)
      : values(rows), first(from), height(map_height), width(map_width), channels(map_channels) {}

  /// Null for a place outside of the map.
  const float* pixel(std::ptrdiff_t y, std::ptrdiff_t x) const {
    if (y < 0 || x < 0 || y >= static_cast<std::ptrdiff_t>(height) || x >= static_cast<std::ptrdiff_t>(width)) {
      return nullptr;
    }
    return values + ((static_cast<std::size_t>(y) - first) * width + static_cast<std::size_t>(x)) * channels;
  }
};

/// Where the windows of a convolution lie along one axis: TensorFlow's SAME, which pads an even size on the far side
/// alone where the stride is 2.
class Windows {
 public:
  Windows(std::size_t size, std::size_t kernel, std::size_t stride)
      : count_((size + stride - 1) / stride), size_(size), kernel_(kernel), stride_(stride) {
    const std::size_t reach = (count_ - 1) * stride + kernel;
    before_ = reach > size ? (reach - size) / 2 : 0;
  }

  std::size_t count() const { return count_; }
  /// The first place of a window; perhaps outside.
  std::ptrdiff_t begin(std::size_t window) const {
    return static_cast<std::ptrdiff_t>(window * stride_) - static_cast<std::ptrdiff_t>(before_);
  }
  /// The places inside the map that windows from `first` to before `end` see.
  std::size_t first_seen(std::size_t first) const {
    return static_cast<std::size_t>(std::max<std::ptrdiff_t>(begin(first), 0));
  }
  std::size_t end_seen(std::size_t end) const {
    return std::min(static_cast<std::size_t>(begin(end - 1) + static_cast<std::ptrdiff_t>(kernel_)), size_);
  }

 private:
  std::size_t count_, size_, kernel_, stride_, before_;
};

/// Rows [begin, end) of a depthwise convolution and its norm, float[rows][out width][channels].
void depthwise_rows(const DepthwiseWeights& weights, const FeatureRows& in, std::size_t stride, std::size_t begin,
                    std::size_t end, float* out, Compute& compute);

/// The windows of rows [begin, end) of a convolution over all channels, float[pixels][channels * kernel * kernel].
void gather_windows(const FeatureMap& in, std::size_t kernel, std::size_t stride, std::size_t begin, std::size_t end,
                    float* out, Compute& compute);

}  // namespace gemlet
