#include "encoders/feature_map.hpp"

#include <array>

#include "encoders/norm.hpp"

namespace gemlet {

void depthwise_rows(const DepthwiseWeights& weights, const FeatureRows& in, std::size_t stride, std::size_t begin,
                    std::size_t end, float* out, Compute& compute) {
  const kernels::Kernels& k = compute.kernels();
  const Windows ys(in.height, weights.kernel, stride);
  const Windows xs(in.width, weights.kernel, stride);
  const std::size_t size = weights.kernel;
  compute.each_token((end - begin) * xs.count(), [&](std::size_t pixel) {
    const std::ptrdiff_t y = ys.begin(begin + pixel / xs.count());
    const std::ptrdiff_t x = xs.begin(pixel % xs.count());
    std::array<const float*, max_vision_kernel * max_vision_kernel> taps;
    for (std::size_t i = 0; i < size * size; ++i) {
      taps[i] = in.pixel(y + static_cast<std::ptrdiff_t>(i / size), x + static_cast<std::ptrdiff_t>(i % size));
    }
    float* const to = out + pixel * in.channels;
    k.depthwise({.weights = weights.conv.data(),
                 .taps = taps.data(),
                 .out = to,
                 .count = size * size,
                 .channels = in.channels});
    k.rms_norm(to, weights.norm.data(), encoder_norm_eps, to, in.channels);
  });
}

void gather_windows(const FeatureMap& in, std::size_t kernel, std::size_t stride, std::size_t begin, std::size_t end,
                    float* out, Compute& compute) {
  const FeatureRows rows(in);
  const Windows ys(in.height, kernel, stride);
  const Windows xs(in.width, kernel, stride);
  const std::size_t places = kernel * kernel;
  compute.each_token((end - begin) * xs.count(), [&](std::size_t pixel) {
    const std::ptrdiff_t y = ys.begin(begin + pixel / xs.count());
    const std::ptrdiff_t x = xs.begin(pixel % xs.count());
    float* const to = out + pixel * places * in.channels;
    for (std::size_t i = 0; i < places; ++i) {
      const float* const from =
          rows.pixel(y + static_cast<std::ptrdiff_t>(i / kernel), x + static_cast<std::ptrdiff_t>(i % kernel));
      for (std::size_t c = 0; c < in.channels; ++c) to[c * places + i] = from == nullptr ? 0.0F : from[c];
    }
  });
}

}  // namespace gemlet
