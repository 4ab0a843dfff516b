#pragma once

#include <cstddef>
#include <vector>

#include "encoders/feature_map.hpp"
#include "encoders/vision_weights.hpp"
#include "gemlet/gemlet.hpp"
#include "tensor/compute.hpp"

namespace gemlet {

/// Runs the blocks of a MobileNetV5 tower (timm, mobilenetv5.py and _efficientnet_blocks.py) in strips of rows, so that
/// the widest activations, of several times a map's channels, are never there as a whole.
class VisionBlocks {
 public:
  /// Every call may throw Error(cancelled).
  VisionBlocks(Compute& compute, const Cancel* cancel) : compute_(compute), cancel_(cancel) {}

  /// 3x3 convolution with stride 2 and a bias, norm, GELU.
  FeatureMap stem(const ConvWeights& weights, const std::vector<float>& bias, const FeatureMap& in);
  /// The first block of a stage halves the map.
  FeatureMap run(const VisionBlockWeights& weights, FeatureMap in, bool halves);
  /// The fusion adapter: joins the outputs of the last two stages, of which the second has half the size, and pools
  /// them to `size` x `size` (timm, MobileNetV5MultiScaleFusionAdapter).
  FeatureMap fuse(const VisionWeights& weights, const FeatureMap& fine, const FeatureMap& coarse, std::size_t size);

 private:
  FeatureMap edge_residual(const EdgeResidualWeights& w, const FeatureMap& in, std::size_t stride);
  FeatureMap inverted_residual(const InvertedResidualWeights& w, FeatureMap in);
  FeatureMap attention(const MobileAttentionWeights& w, FeatureMap in);

  /// Keys or values of a block, float[pixels][head_dim].
  std::vector<float> project_pixels(const DepthwiseWeights& down, const Matrix& projection, const FeatureMap& normed);
  /// The 1x1 convolution that widens, norm and GELU, of rows [begin, end) of `in`; appended to `out`.
  void expand(const InvertedResidualWeights& w, const FeatureMap& in, std::size_t begin, std::size_t end,
              std::vector<float>& out);
  void norm_gelu(float* x, const std::vector<float>& norm, std::size_t pixels);
  /// y = norm(y) * gamma, where there is a gamma; + x, where there is an x.
  void finish(float* y, const std::vector<float>& norm, const std::vector<float>& gamma, const float* x,
              std::size_t pixels);

  /// Calls strip(begin, end) for rows [0, height) of so many pixels.
  template <typename Strip>
  void each_strip(std::size_t height, std::size_t width, const Strip& strip) const;

  Compute& compute_;
  const Cancel* cancel_;
  std::vector<float> first_, second_;  // of one strip
};

}  // namespace gemlet
