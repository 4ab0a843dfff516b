#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <vector>

namespace gemlet {

/// The log-mel spectrogram that Gemma 3n's audio encoder was trained on (transformers, AudioFeatureExtractor of Gemma
/// 3n): frames of 32 ms every 10 ms, HTK pre-emphasis, a periodic Hann window, magnitudes of a 1024-point transform,
/// mel triangles of 125 to 7600 Hz, natural logarithm with a floor.
class LogMel {
 public:
  static constexpr std::size_t sample_rate = 16000;
  static constexpr std::size_t frame_samples = 512;
  static constexpr std::size_t hop_samples = 160;
  /// A frame is there once as many samples are: the reference unfolds one more than it uses.
  static constexpr std::size_t unfolded_samples = frame_samples + 1;

  /// Samples of a whole sound with the zeros behind it: a multiple of 128 as in the reference, which fails for less
  /// than one frame; a moment of silence makes one.
  static constexpr std::size_t padded_samples(std::size_t samples) {
    constexpr std::size_t multiple = 128;
    return ((samples < unfolded_samples ? unfolded_samples : samples) + multiple - 1) / multiple * multiple;
  }
  /// Frames that so many samples hold.
  static constexpr std::size_t frames_in(std::size_t samples) {
    return samples < unfolded_samples ? 0 : (samples - unfolded_samples) / hop_samples + 1;
  }

  explicit LogMel(std::size_t bins);

  std::size_t bins() const { return filters_.size(); }

  /// One frame: `samples` is float[frame_samples], mono at sample_rate in [-1, 1]; `out` is float[bins()].
  void frame(const float* samples, float* out) const;

 private:
  static constexpr std::size_t transform = 1024;
  static constexpr std::size_t half = transform / 2;
  using Complex = std::complex<double>;

  struct Filter {
    std::size_t first = 0;  // bin of the transform
    std::vector<double> weights;
  };

  /// In place, radix 2; `x` is in bit-reversed order.
  void transform_half(std::array<Complex, half>& x) const;

  std::array<float, frame_samples> window_;
  std::array<Complex, half> roots_;  // e^(-2 pi i k / transform)
  std::array<std::size_t, half> reversed_;
  std::vector<Filter> filters_;
};

}  // namespace gemlet
