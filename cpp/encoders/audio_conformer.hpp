#pragma once

#include <cstddef>
#include <vector>

#include "encoders/audio_weights.hpp"
#include "tensor/compute.hpp"

namespace gemlet {

/// A frame attends to itself and so many before.
inline constexpr std::size_t audio_past_frames = 12;

/// One conformer block over a sound that comes piece by piece (transformers, AudioConformerBlock of Gemma 3n). A frame
/// depends on itself and on frames before it: on 12 through attention, on kernel - 1 through the light convolution.
/// What later pieces need of them is kept.
class AudioConformer {
 public:
  /// What follows from a block's weights alone, for all sounds.
  struct Constants {
    std::vector<float> query_scale;  // [head_dim]
    std::vector<float> positions;    // [heads][audio_past_frames + 1][head_dim], farthest first
  };
  static Constants constants(const AudioShape& shape, const AudioBlockWeights& weights, Compute& compute);

  /// Buffers that all blocks of a sound share.
  struct Scratch {
    std::vector<float> normed, wide, queries, keys, values;
  };

  AudioConformer(const AudioShape& shape, const AudioBlockWeights& weights, const Constants& constants);

  /// `x`, float[frames][width], in place. Of the output only every `every`-th frame is wanted, of those that begin with
  /// frame `first`; with `every` above 1 they are moved to the front. Returns how many.
  std::size_t run(float* x, std::size_t frames, std::size_t first, std::size_t every, Scratch& scratch,
                  Compute& compute);

 private:
  void feed_forward(const AudioFeedForwardWeights& weights, float* x, std::size_t frames, Scratch& scratch,
                    Compute& compute) const;
  void attend(float* x, std::size_t frames, Scratch& scratch, Compute& compute);
  void light_convolution(float* x, std::size_t frames, Scratch& scratch, Compute& compute);
  /// x, float[frames][width], as [heads][frames][head_dim] behind what each head keeps.
  void append_heads(std::vector<float>& kept, const float* x, std::size_t frames) const;
  void drop_heads(std::vector<float>& kept, std::size_t held) const;

  const AudioShape& shape_;
  const AudioBlockWeights& weights_;
  const Constants& constants_;
  std::size_t held_ = 0;            // earlier frames in the keys and values, at most audio_past_frames
  std::vector<float> keys_;         // [heads][held][head_dim]
  std::vector<float> values_;       // likewise
  std::vector<float> convolution_;  // the last kernel - 1 inputs of the light convolution, [<= kernel - 1][width]
};

}  // namespace gemlet
