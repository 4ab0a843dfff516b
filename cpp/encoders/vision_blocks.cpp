#include "encoders/vision_blocks.hpp"

#include <algorithm>
#include <utility>

#include "encoders/attention.hpp"
#include "encoders/cancel.hpp"
#include "encoders/norm.hpp"

namespace gemlet {
namespace {

constexpr std::size_t strip_pixels = 1024;

float* sized(std::vector<float>& buffer, std::size_t floats) {
  buffer.resize(std::max(buffer.size(), floats));
  return buffer.data();
}

}  // namespace

template <typename Strip>
void VisionBlocks::each_strip(std::size_t height, std::size_t width, const Strip& strip) const {
  const std::size_t rows = std::max<std::size_t>(strip_pixels / width, 1);
  for (std::size_t y = 0; y < height; y += rows) {
    check_cancelled(cancel_, "the picture");
    strip(y, std::min(y + rows, height));
  }
}

void VisionBlocks::norm_gelu(float* x, const std::vector<float>& norm, std::size_t pixels) {
  const std::size_t channels = norm.size();
  compute_.each_token(pixels, [&](std::size_t p) {
    float* const row = x + p * channels;
    compute_.kernels().rms_norm(row, norm.data(), encoder_norm_eps, row, channels);
    compute_.kernels().gelu_mul(row, nullptr, channels);
  });
}

void VisionBlocks::finish(float* y, const std::vector<float>& norm, const std::vector<float>& gamma, const float* x,
                          std::size_t pixels) {
  const std::size_t channels = std::max(norm.size(), gamma.size());
  const kernels::Kernels& k = compute_.kernels();
  compute_.each_token(pixels, [&](std::size_t p) {
    float* const row = y + p * channels;
    if (!norm.empty()) k.rms_norm(row, norm.data(), encoder_norm_eps, row, channels);
    if (!gamma.empty()) k.mul(gamma.data(), row, channels);
    if (x != nullptr) k.add(x + p * channels, row, channels);
  });
}

FeatureMap VisionBlocks::stem(const ConvWeights& weights, const std::vector<float>& bias, const FeatureMap& in) {
  FeatureMap out((in.height + 1) / 2, (in.width + 1) / 2, weights.conv.rows);
  each_strip(out.height, out.width, [&](std::size_t begin, std::size_t end) {
    const std::size_t pixels = (end - begin) * out.width;
    float* const windows = sized(first_, pixels * weights.conv.cols);
    gather_windows(in, weights.kernel, 2, begin, end, windows, compute_);
    float* const y = out.row(begin);
    compute_.linear({{weights.conv, y}}, windows, pixels);
    compute_.each_token(
        pixels, [&](std::size_t p) { compute_.kernels().add(bias.data(), y + p * out.channels, out.channels); });
    norm_gelu(y, weights.norm, pixels);
  });
  return out;
}

FeatureMap VisionBlocks::run(const VisionBlockWeights& weights, FeatureMap in, bool halves) {
  if (const auto* w = std::get_if<EdgeResidualWeights>(&weights)) return edge_residual(*w, in, halves ? 2 : 1);
  if (const auto* w = std::get_if<InvertedResidualWeights>(&weights)) return inverted_residual(*w, std::move(in));
  return attention(std::get<MobileAttentionWeights>(weights), std::move(in));
}

FeatureMap VisionBlocks::edge_residual(const EdgeResidualWeights& w, const FeatureMap& in, std::size_t stride) {
  FeatureMap out((in.height + stride - 1) / stride, (in.width + stride - 1) / stride, w.conv_pwl.conv.rows);
  const bool skip = stride == 1 && in.channels == out.channels;
  each_strip(out.height, out.width, [&](std::size_t begin, std::size_t end) {
    const std::size_t pixels = (end - begin) * out.width;
    float* const windows = sized(first_, pixels * w.conv_exp.conv.cols);
    float* const wide = sized(second_, pixels * w.conv_exp.conv.rows);
    gather_windows(in, w.conv_exp.kernel, stride, begin, end, windows, compute_);
    compute_.linear({{w.conv_exp.conv, wide}}, windows, pixels);
    norm_gelu(wide, w.conv_exp.norm, pixels);
    compute_.linear({{w.conv_pwl.conv, out.row(begin)}}, wide, pixels);
    finish(out.row(begin), w.conv_pwl.norm, {}, skip ? in.row(begin) : nullptr, pixels);
  });
  return out;
}

void VisionBlocks::expand(const InvertedResidualWeights& w, const FeatureMap& in, std::size_t begin, std::size_t end,
                          std::vector<float>& out) {
  const std::size_t pixels = (end - begin) * in.width;
  const float* x = in.row(begin);
  if (w.dw_start.present()) {
    float* const started = sized(first_, pixels * in.channels);
    depthwise_rows(w.dw_start, FeatureRows(in), 1, begin, end, started, compute_);
    x = started;
  }
  const std::size_t before = out.size();
  out.resize(before + pixels * w.pw_exp.conv.rows);
  compute_.linear({{w.pw_exp.conv, out.data() + before}}, x, pixels);
  norm_gelu(out.data() + before, w.pw_exp.norm, pixels);
}

FeatureMap VisionBlocks::inverted_residual(const InvertedResidualWeights& w, FeatureMap in) {
  const std::size_t stride = w.dw_mid.present() ? 2 : 1;
  const Windows ys(in.height, w.dw_mid.present() ? w.dw_mid.kernel : 1, stride);
  FeatureMap out(ys.count(), (in.width + stride - 1) / stride, w.pw_proj.conv.rows);
  const std::size_t wide = w.pw_exp.conv.rows;
  const bool skip = stride == 1 && in.channels == out.channels;
  std::vector<float> expanded;  // rows [first, last) of the widened map
  std::size_t first = 0, last = 0;
  each_strip(out.height, out.width, [&](std::size_t begin, std::size_t end) {
    const std::size_t pixels = (end - begin) * out.width;
    // Rows of the strip before that this one sees too stay, so that nothing is computed twice.
    const std::size_t dropped = std::min(ys.first_seen(begin), last) - first;
    expanded.erase(expanded.begin(), expanded.begin() + static_cast<std::ptrdiff_t>(dropped * in.width * wide));
    first += dropped;
    const std::size_t seen = ys.end_seen(end);
    expand(w, in, last, seen, expanded);
    last = seen;

    const float* y = expanded.data();
    if (w.dw_mid.present()) {
      float* const middle = sized(second_, pixels * wide);
      depthwise_rows(w.dw_mid, {expanded.data(), first, in.height, in.width, wide}, stride, begin, end, middle,
                     compute_);
      compute_.each_token(pixels,
                          [&](std::size_t p) { compute_.kernels().gelu_mul(middle + p * wide, nullptr, wide); });
      y = middle;
    }
    compute_.linear({{w.pw_proj.conv, out.row(begin)}}, y, pixels);
    finish(out.row(begin), w.pw_proj.norm, w.gamma, skip ? in.row(begin) : nullptr, pixels);
  });
  return out;
}

std::vector<float> VisionBlocks::project_pixels(const DepthwiseWeights& down, const Matrix& projection,
                                                const FeatureMap& normed) {
  const float* x = normed.values.data();
  std::size_t pixels = normed.height * normed.width;
  if (down.present()) {
    const std::size_t height = (normed.height + 1) / 2;
    pixels = height * ((normed.width + 1) / 2);
    float* const smaller = sized(first_, pixels * normed.channels);
    depthwise_rows(down, FeatureRows(normed), 2, 0, height, smaller, compute_);
    x = smaller;
  }
  std::vector<float> out(pixels * projection.rows);
  compute_.linear({{projection, out.data()}}, x, pixels);
  return out;
}

FeatureMap VisionBlocks::attention(const MobileAttentionWeights& w, FeatureMap in) {
  FeatureMap normed = in;
  norm_rows(normed.values.data(), w.norm.data(), in.channels, in.height * in.width, compute_);
  const std::vector<float> keys = project_pixels(w.key_down, w.key, normed);
  const std::vector<float> values = project_pixels(w.value_down, w.value, normed);
  const std::size_t head_dim = w.key.rows;
  const HeadRows heads{keys.data(), values.data(), 1, keys.size() / head_dim, head_dim};
  each_strip(in.height, in.width, [&](std::size_t begin, std::size_t end) {
    const std::size_t pixels = (end - begin) * in.width;
    float* const queries = sized(first_, pixels * w.query.rows);
    compute_.linear({{w.query, queries}}, normed.row(begin), pixels);
    attend(queries, pixels * w.query.rows / head_dim, heads, second_, compute_);
    compute_.linear({{w.output, normed.row(begin)}}, queries, pixels);
    finish(normed.row(begin), {}, w.gamma, in.row(begin), pixels);
  });
  return normed;
}

FeatureMap VisionBlocks::fuse(const VisionWeights& weights, const FeatureMap& fine, const FeatureMap& coarse,
                              std::size_t size) {
  const std::size_t channels = fine.channels + coarse.channels;
  const std::size_t width = weights.width();
  const std::size_t pool = fine.height / size;
  const std::size_t larger = fine.height / coarse.height;
  FeatureMap out(size, size, width);
  for (std::size_t y = 0; y < size; ++y) {
    const std::size_t pixels = pool * fine.width;
    float* const joined = sized(first_, pixels * std::max(channels, width));
    float* const wide = sized(second_, pixels * weights.fusion_exp.conv.rows);
    compute_.each_token(pixels, [&](std::size_t p) {
      const std::size_t row = y * pool + p / fine.width;
      const std::size_t column = p % fine.width;
      float* const to = std::copy_n(fine.row(row) + column * fine.channels, fine.channels, joined + p * channels);
      std::copy_n(coarse.row(row / larger) + column / larger * coarse.channels, coarse.channels, to);
    });
    compute_.linear({{weights.fusion_exp.conv, wide}}, joined, pixels);
    norm_gelu(wide, weights.fusion_exp.norm, pixels);
    compute_.linear({{weights.fusion_proj.conv, joined}}, wide, pixels);
    norm_rows(joined, weights.fusion_proj.norm.data(), width, pixels, compute_);
    compute_.each_token(size, [&](std::size_t x) {
      float* const to = out.row(y) + x * width;
      for (std::size_t p = 0; p < pool * pool; ++p) {
        compute_.kernels().add(joined + (p / pool * fine.width + x * pool + p % pool) * width, to, width);
      }
      compute_.kernels().scale(1 / static_cast<float>(pool * pool), to, width);
      compute_.kernels().rms_norm(to, weights.fusion_norm.data(), encoder_norm_eps, to, width);
    });
  }
  return out;
}

}  // namespace gemlet
