#include "encoders/audio_subsample.hpp"

#include <algorithm>
#include <cmath>

namespace gemlet {
namespace {

constexpr std::size_t conv_size = 3;
constexpr std::size_t stride = 2;
constexpr double group_norm_eps = 1e-3;

}  // namespace

AudioSubsample::Stage AudioSubsample::make_stage(const AudioWeights& weights, std::size_t index) {
  const AudioShape& shape = weights.shape;
  Stage stage;
  stage.weights = &weights.convs[index];
  stage.in_width = shape.conv_width(index);
  stage.in_channels = index == 0 ? 1 : shape.conv_channels[index - 1];
  stage.out_width = shape.conv_width(index + 1);
  stage.out_channels = shape.conv_channels[index];
  return stage;
}

AudioSubsample::AudioSubsample(const AudioWeights& weights, Compute& compute)
    : weights_(weights), compute_(compute), stages_{make_stage(weights, 0), make_stage(weights, 1)} {}

void AudioSubsample::feed(const float* mel, std::size_t frames, bool last, std::vector<float>& out) {
  stages_[0].rows.insert(stages_[0].rows.end(), mel, mel + frames * stages_[0].row_size());
  const std::vector<float> first = convolve(stages_[0], last);
  stages_[1].rows.insert(stages_[1].rows.end(), first.begin(), first.end());
  const std::vector<float> second = convolve(stages_[1], last);
  const std::size_t added = second.size() / weights_.input_proj.cols;
  if (added == 0) return;
  const std::size_t before = out.size();
  out.resize(before + added * weights_.shape.width);
  compute_.linear({{weights_.input_proj, out.data() + before}}, second.data(), added);
}

std::vector<float> AudioSubsample::convolve(Stage& stage, bool last) {
  const std::size_t rows = stage.rows.size() / stage.row_size();
  // Behind the last row there are rows of zeros.
  const std::size_t outputs = last ? (rows + stride - 1) / stride : rows < conv_size ? 0 : (rows - 1) / stride;
  const std::size_t places = outputs * stage.out_width;
  const std::size_t patch = stage.weights->conv.cols;
  std::vector<float> out(places * stage.out_channels);
  if (outputs == 0) return out;

  float* const patches = compute_.scratch(places * patch);
  compute_.each_token(places, [&](std::size_t place) {
    const std::size_t t = place / stage.out_width * stride;
    const std::size_t f = place % stage.out_width * stride;  // one less than the middle: there is one zero in front
    float* to = patches + place * patch;
    for (std::size_t c = 0; c < stage.in_channels; ++c) {
      for (std::size_t i = 0; i < conv_size; ++i) {
        for (std::size_t j = 0; j < conv_size; ++j) {
          const bool inside = t + i < rows && f + j >= 1 && f + j <= stage.in_width;
          *to++ = inside ? stage.rows[((t + i) * stage.in_width + f + j - 1) * stage.in_channels + c] : 0.0F;
        }
      }
    }
  });
  compute_.linear({{stage.weights->conv, out.data()}}, patches, places);
  for (std::size_t t = 0; t < outputs; ++t) normalise(stage, out.data() + t * stage.out_width * stage.out_channels);
  const std::size_t used = std::min(outputs * stride, rows) * stage.row_size();
  stage.rows.erase(stage.rows.begin(), stage.rows.begin() + static_cast<std::ptrdiff_t>(used));
  return out;
}

void AudioSubsample::normalise(Stage& stage, float* row) {
  const std::size_t size = stage.out_width * stage.out_channels;
  double sum = 0;
  for (std::size_t i = 0; i < size; ++i) sum += static_cast<double>(row[i]);
  stage.sum += sum;
  stage.count += static_cast<double>(size);
  const double mean = stage.sum / stage.count;
  double squares = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const double difference = static_cast<double>(row[i]) - mean;
    squares += difference * difference;
  }
  stage.squares += squares;
  const double scale = 1 / std::sqrt(stage.squares / stage.count + group_norm_eps);
  for (std::size_t i = 0; i < size; ++i) {
    const auto normed = static_cast<float>((static_cast<double>(row[i]) - mean) * scale);
    row[i] = std::max(normed * stage.weights->norm[i % stage.out_channels], 0.0F);
  }
}

}  // namespace gemlet
