#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "encoders/audio_conformer.hpp"
#include "encoders/audio_subsample.hpp"
#include "encoders/audio_weights.hpp"
#include "encoders/log_mel.hpp"
#include "encoders/soft_tokens.hpp"
#include "format/gguf.hpp"
#include "gemlet/gemlet.hpp"
#include "tensor/compute.hpp"

namespace gemlet {

/// Gemma 3n's audio encoder, a conformer (Universal Speech Model, arXiv 2303.01037; transformers, AudioEncoder of Gemma
/// 3n): one soft token for 160 ms of sound. It looks back only, so that sound is encoded while it is recorded.
///
/// Immutable; any number of sounds may be encoded at once, each with a Compute of its own.
class AudioUsm {
 public:
  /// Refers to the file, a model with its encoders or a separate one (an "mmproj"), which must outlive this. Throws
  /// Error naming the key or tensor.
  AudioUsm(const GgufFile& file, Compute& compute);

  /// Whether the file holds an audio encoder.
  static bool is_in(const GgufFile& file);
  /// Soft tokens that a short sound is filled up to: what the file says, or as many as published encoders do.
  static std::size_t read_filled_tokens(const Reader& read);

  std::size_t hidden_size() const { return soft_tokens_.hidden_size(); }

  /// The piece in front of a sound; the mark behind it is the last row.
  static constexpr const char* begin = "<start_of_audio>";

  /// Makes the soft tokens of a sound, float[tokens][hidden_size()], what enters a prompt: a short one is filled up
  /// with the hard token for padding, and one that marks the end follows.
  void close(std::vector<float>& rows, Compute& compute) const;

  /// A sound that is encoded as it comes. How it is cut into pieces changes nothing, to the bit.
  class Sound {
   public:
    Sound(const AudioUsm& encoder, Compute& compute);

    /// Throws Error(argument) for a sample far outside of [-1, 1], and after finish().
    void check(std::span<const float> samples) const;
    /// More samples: mono, 16 kHz. Throws what check() does, and nothing is taken then. After Error(cancelled) the
    /// samples are taken, and the next call goes on.
    void feed(std::span<const float> samples, const Cancel* cancel = nullptr);
    /// No more samples come. Throws Error(argument) if there were none, and Error(cancelled): call it again then.
    void finish(const Cancel* cancel = nullptr);

    /// The soft tokens so far: float[tokens][hidden_size()].
    std::span<const float> rows() const { return rows_; }

   private:
    /// Encodes what is there, in pieces that bound the memory.
    void encode(bool last, const Cancel* cancel);
    void encode_frames(const float* mel, std::size_t frames, bool last);

    const AudioUsm& encoder_;
    Compute& compute_;
    AudioSubsample subsample_;
    std::vector<AudioConformer> blocks_;
    AudioConformer::Scratch scratch_;
    std::vector<float> samples_;  // from the next frame's first on
    std::size_t received_ = 0;
    std::size_t frames_ = 0;  // of the conformer, so far
    bool ended_ = false;      // the padding behind the last sample is in samples_
    bool finished_ = false;
    std::vector<float> rows_;
  };

 private:
  AudioWeights weights_;
  SoftTokens soft_tokens_;
  LogMel log_mel_;
  std::size_t filled_tokens_;  // that a short sound is filled up to
  std::vector<AudioConformer::Constants> constants_;
};

}  // namespace gemlet
