#pragma once

#include <cstddef>
#include <vector>

#include "encoders/audio_weights.hpp"
#include "tensor/compute.hpp"

namespace gemlet {

/// Two 3x3 convolutions with stride 2 over time and mel bins, each followed by a cumulative group norm and ReLU, and a
/// projection: four mel frames become one frame of the conformer (transformers, AudioSubSampleConvProjection of Gemma
/// 3n). An output frame sees the mel frames 4 t to 4 t + 6 and, through the norm, all before.
class AudioSubsample {
 public:
  AudioSubsample(const AudioWeights& weights, Compute& compute);

  /// Appends to `out`, float[frames][width], what `frames` more mel frames, float[frames][mel_bins], complete; and all
  /// that remains where these are the last.
  void feed(const float* mel, std::size_t frames, bool last, std::vector<float>& out);

 private:
  /// A convolution and what it has heard.
  struct Stage {
    const AudioConvWeights* weights = nullptr;
    std::size_t in_width = 0, in_channels = 0;    // of an input row, [mel][channel]
    std::size_t out_width = 0, out_channels = 0;  // of an output row
    std::vector<float> rows;                      // input rows that later outputs need
    // Of the cumulative norm. The squares are those of the differences from the mean as it was at their time.
    double sum = 0, squares = 0, count = 0;

    std::size_t row_size() const { return in_width * in_channels; }
  };

  static Stage make_stage(const AudioWeights& weights, std::size_t index);
  /// The output rows that `stage` can compute; takes their input rows away.
  std::vector<float> convolve(Stage& stage, bool last);
  static void normalise(Stage& stage, float* row);

  const AudioWeights& weights_;
  Compute& compute_;
  Stage stages_[2];
};

}  // namespace gemlet
