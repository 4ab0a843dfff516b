#include "encoders/audio_conformer.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "encoders/norm.hpp"

namespace gemlet {
namespace {

constexpr float attention_cap = 50;
constexpr float feed_forward_weight = 0.5F;
constexpr double longest_timescale = 1e4;
constexpr std::size_t window = audio_past_frames + 1;

double softplus(double x) { return x > 30 ? x : std::log1p(std::exp(x)); }

std::vector<float>& sized(std::vector<float>& buffer, std::size_t floats) {
  buffer.resize(std::max(buffer.size(), floats));
  return buffer;
}

}  // namespace

AudioConformer::Constants AudioConformer::constants(const AudioShape& shape, const AudioBlockWeights& weights,
                                                    Compute& compute) {
  Constants c;
  const double scale = 1 / (std::sqrt(static_cast<double>(shape.head_dim)) * std::numbers::ln2);
  for (const float s : weights.per_dim_scale) {
    c.query_scale.push_back(static_cast<float>(scale * softplus(static_cast<double>(s))));
  }
  // Sines, then cosines, of each distance at `timescales` frequencies.
  const std::size_t timescales = shape.width / 2;
  const double increment = std::log(longest_timescale) / static_cast<double>(std::max<std::size_t>(timescales - 1, 1));
  std::vector<float> signal(window * shape.width);
  for (std::size_t row = 0; row < window; ++row) {
    const auto distance = static_cast<double>(audio_past_frames - row);
    for (std::size_t i = 0; i < timescales; ++i) {
      const double angle = distance * std::exp(-increment * static_cast<double>(i));
      signal[row * shape.width + i] = static_cast<float>(std::sin(angle));
      signal[row * shape.width + timescales + i] = static_cast<float>(std::cos(angle));
    }
  }
  std::vector<float> projected(signal.size());
  compute.linear({{weights.pos_proj, projected.data()}}, signal.data(), window);
  c.positions.resize(projected.size());
  for (std::size_t h = 0; h < shape.heads; ++h) {
    for (std::size_t row = 0; row < window; ++row) {
      std::copy_n(projected.data() + row * shape.width + h * shape.head_dim, shape.head_dim,
                  c.positions.data() + (h * window + row) * shape.head_dim);
    }
  }
  return c;
}

AudioConformer::AudioConformer(const AudioShape& shape, const AudioBlockWeights& weights, const Constants& constants)
    : shape_(shape), weights_(weights), constants_(constants) {}

// The reference clamps to +-1e10 here and there, which changes no finite float that weights of this family give.
std::size_t AudioConformer::run(float* x, std::size_t frames, std::size_t first, std::size_t every, Scratch& scratch,
                                Compute& compute) {
  const std::size_t width = shape_.width;
  feed_forward(weights_.ffw_layer_start, x, frames, scratch, compute);
  attend(x, frames, scratch, compute);
  light_convolution(x, frames, scratch, compute);
  std::size_t wanted = 0;
  for (std::size_t t = first; t < frames; t += every) {
    if (t != wanted) std::copy_n(x + t * width, width, x + wanted * width);
    ++wanted;
  }
  if (wanted == 0) return 0;
  feed_forward(weights_.ffw_layer_end, x, wanted, scratch, compute);
  norm_rows(x, weights_.norm.data(), width, wanted, compute);
  return wanted;
}

void AudioConformer::feed_forward(const AudioFeedForwardWeights& weights, float* x, std::size_t frames,
                                  Scratch& scratch, Compute& compute) const {
  const kernels::Kernels& k = compute.kernels();
  const std::size_t width = shape_.width;
  const std::size_t ffn = shape_.ffn;
  float* const normed = sized(scratch.normed, frames * width).data();
  float* const hidden = sized(scratch.wide, frames * ffn).data();
  compute.each_token(frames, [&](std::size_t t) {
    k.rms_norm(x + t * width, weights.pre_layer_norm.data(), encoder_norm_eps, normed + t * width, width);
  });
  compute.linear({{weights.ffw_layer_1, hidden}}, normed, frames);
  compute.each_token(frames, [&](std::size_t t) { k.sigmoid_mul(hidden + t * ffn, hidden + t * ffn, ffn); });
  compute.linear({{weights.ffw_layer_2, normed}}, hidden, frames);
  compute.each_token(frames, [&](std::size_t t) {
    k.rms_norm(normed + t * width, weights.post_layer_norm.data(), encoder_norm_eps, normed + t * width, width);
    k.axpy(feed_forward_weight, normed + t * width, x + t * width, width);
  });
}

void AudioConformer::append_heads(std::vector<float>& kept, const float* x, std::size_t frames) const {
  const std::size_t dim = shape_.head_dim;
  std::vector<float> joined(shape_.heads * (held_ + frames) * dim);
  for (std::size_t h = 0; h < shape_.heads; ++h) {
    float* to = joined.data() + h * (held_ + frames) * dim;
    to = std::copy_n(kept.data() + h * held_ * dim, held_ * dim, to);
    for (std::size_t t = 0; t < frames; ++t) to = std::copy_n(x + t * shape_.width + h * dim, dim, to);
  }
  kept = std::move(joined);
}

void AudioConformer::drop_heads(std::vector<float>& kept, std::size_t held) const {
  const std::size_t dim = shape_.head_dim;
  const std::size_t now = kept.size() / (shape_.heads * dim);
  for (std::size_t h = 0; h < shape_.heads; ++h) {
    std::copy_n(kept.data() + (h * now + now - held) * dim, held * dim, kept.data() + h * held * dim);
  }
  kept.resize(shape_.heads * held * dim);
}

void AudioConformer::attend(float* x, std::size_t frames, Scratch& scratch, Compute& compute) {
  const kernels::Kernels& k = compute.kernels();
  const std::size_t width = shape_.width;
  const std::size_t dim = shape_.head_dim;
  float* const normed = sized(scratch.normed, frames * width).data();
  float* const queries = sized(scratch.queries, frames * width).data();
  float* const keys = sized(scratch.keys, frames * width).data();
  float* const values = sized(scratch.values, frames * width).data();
  compute.each_token(frames, [&](std::size_t t) {
    k.rms_norm(x + t * width, weights_.pre_attn_norm.data(), encoder_norm_eps, normed + t * width, width);
  });
  compute.linear({{weights_.q_proj, queries}, {weights_.k_proj, keys}, {weights_.v_proj, values}}, normed, frames);
  append_heads(keys_, keys, frames);
  append_heads(values_, values, frames);
  const std::size_t held = held_ + frames;

  compute.parallel_for(frames * shape_.heads, 4, [&](std::size_t begin, std::size_t end, int) {
    for (std::size_t job = begin; job < end; ++job) {
      const std::size_t t = job / shape_.heads;
      const std::size_t h = job % shape_.heads;
      const std::size_t last = held_ + t;
      const std::size_t seen = std::min(last + 1, window);
      const std::size_t row = h * held + last + 1 - seen;
      float* const query = queries + t * width + h * dim;
      k.mul(constants_.query_scale.data(), query, dim);
      std::array<float, window> scores;
      std::array<float, window> by_position;
      const auto dots = [&](const float* rows, float* out) {
        k.cache_f32.scores({.weights = rows,
                            .activations = query,
                            .out = out,
                            .row_bytes = dim * sizeof(float),
                            .rows = seen,
                            .cols = dim,
                            .tokens = 1,
                            .out_stride = seen});
      };
      dots(keys_.data() + row * dim, scores.data());
      dots(constants_.positions.data() + (h * window + window - seen) * dim, by_position.data());
      k.add(by_position.data(), scores.data(), seen);
      k.soft_cap(scores.data(), attention_cap, seen);
      float max = -std::numeric_limits<float>::infinity();
      float sum = 0;
      k.softmax_piece(scores.data(), seen, &max, &sum);
      k.scale(1 / sum, scores.data(), seen);
      float* const out = normed + t * width + h * dim;
      std::fill_n(out, dim, 0.0F);
      k.cache_f32.accumulate({.weights = scores.data(),
                              .stride = seen,
                              .queries = 1,
                              .values = values_.data() + row * dim,
                              .positions = seen,
                              .head_dim = dim,
                              .acc = out});
    }
  });
  held_ = std::min(held, audio_past_frames);
  drop_heads(keys_, held_);
  drop_heads(values_, held_);

  compute.linear({{weights_.post, queries}}, normed, frames);
  norm_rows(queries, weights_.post_norm.data(), width, frames, compute);
  compute.each_token(frames, [&](std::size_t t) { k.add(queries + t * width, x + t * width, width); });
}

void AudioConformer::light_convolution(float* x, std::size_t frames, Scratch& scratch, Compute& compute) {
  const kernels::Kernels& k = compute.kernels();
  const std::size_t width = shape_.width;
  float* const normed = sized(scratch.normed, frames * width).data();
  float* const wide = sized(scratch.wide, frames * 2 * width).data();
  compute.each_token(frames, [&](std::size_t t) {
    k.rms_norm(x + t * width, weights_.lconv_pre_norm.data(), encoder_norm_eps, normed + t * width, width);
  });
  compute.linear({{weights_.linear_start, wide}}, normed, frames);

  const std::size_t before = convolution_.size() / width;
  convolution_.resize((before + frames) * width);
  compute.each_token(frames, [&](std::size_t t) {
    float* const gated = convolution_.data() + (before + t) * width;
    std::copy_n(wide + t * 2 * width, width, gated);
    k.sigmoid_mul(gated, wide + t * 2 * width + width, width);
  });
  compute.each_token(frames, [&](std::size_t t) {
    std::array<const float*, 64> taps;
    for (std::size_t i = 0; i < shape_.kernel; ++i) {
      const std::size_t behind = shape_.kernel - 1 - i;
      taps[i] = behind > before + t ? nullptr : convolution_.data() + (before + t - behind) * width;
    }
    float* const out = normed + t * width;
    k.depthwise({.weights = weights_.depthwise.data(),
                 .taps = taps.data(),
                 .out = out,
                 .count = shape_.kernel,
                 .channels = width});
    k.rms_norm(out, weights_.conv_norm.data(), encoder_norm_eps, out, width);
    k.sigmoid_mul(out, out, width);
  });
  const std::size_t kept = std::min(before + frames, shape_.kernel - 1) * width;
  convolution_.erase(convolution_.begin(), convolution_.end() - static_cast<std::ptrdiff_t>(kept));

  compute.linear({{weights_.linear_end, wide}}, normed, frames);
  compute.each_token(frames, [&](std::size_t t) { k.add(wide + t * width, x + t * width, width); });
}

}  // namespace gemlet
