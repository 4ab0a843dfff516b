#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "gemlet/gemlet.hpp"

namespace gemlet {

/// The channels of a pixel, 8 bits each, in memory. What is transparent is put on white.
enum class PixelFormat {
  rgb8,
  rgba8,
  rgba8_premultiplied  ///< the colours are already multiplied by alpha
};

struct Picture {
  const std::uint8_t* pixels = nullptr;
  std::size_t width = 0;
  std::size_t height = 0;
  std::size_t stride = 0;  ///< bytes from one row to the next
  PixelFormat format = PixelFormat::rgb8;
};

/// The encoders of a model for what is not text: each turns its medium into soft tokens, embeddings of the text model.
class GEMLET_API Encoders : public std::enable_shared_from_this<Encoders> {
 public:
  /// `path`: a model file that holds its encoders, or a separate one (llama.cpp calls it "mmproj"). Of the options,
  /// `threads` and `kernels` count. Throws Error(unsupported) for a file without encoders.
  static std::shared_ptr<const Encoders> load(const std::filesystem::path& path, const EngineOptions& options = {});
  ~Encoders();

  bool sees() const;
  bool hears() const;
  int hidden_size() const;     ///< of the text model: the floats of a soft token
  int picture_size() const;    ///< the square that pictures are resized to unless told otherwise; 0 if they do not see
  int picture_tokens() const;  ///< places that a picture takes in a prompt, at any size; 0 if the encoders do not see

  /// A picture, as it enters prompts. It is resized to a square of `size` pixels, whatever its aspect: 256, 512 or
  /// 768 for Gemma 3n, of which smaller is faster, and 896 for Gemma 3; 0 is the size that the encoder was made for.
  /// What is still held somewhere is not encoded again. `progress` gets the share that is done. Throws Error(argument)
  /// for another size or a picture without pixels, Error(unsupported) if the encoders do not see, and Error(cancelled).
  std::shared_ptr<const Medium> encode(const Picture& picture, int size = 0, const Cancel* cancel = nullptr,
                                       const std::function<void(float)>& progress = {}) const;

  /// A sound, as it enters prompts: what a SoundStream makes of it. Gemma 3n was trained on sounds of up to 30 s.
  std::shared_ptr<const Medium> encode(std::span<const float> samples, const Cancel* cancel = nullptr,
                                       const std::function<void(float)>& progress = {}) const;

  struct GEMLET_HIDDEN Impl;

 private:
  friend class SoundStream;
  Encoders();
  std::unique_ptr<Impl> impl_;
};

/// A sound that is encoded as it comes, 160 ms a soft token. How it is cut into pieces changes nothing, to the bit, and
/// neither does the number of threads. One call at a time.
class GEMLET_API SoundStream {
 public:
  static constexpr int sample_rate = 16000;

  /// Throws Error(unsupported) if the encoders do not hear.
  explicit SoundStream(std::shared_ptr<const Encoders> encoders);
  ~SoundStream();
  SoundStream(SoundStream&&) noexcept;
  SoundStream& operator=(SoundStream&&) noexcept;

  /// More samples: mono, at sample_rate, in [-1, 1]. Throws Error(argument) for one far outside, of which
  /// nothing is taken then, and after finish(). After Error(cancelled) the samples are taken; call finish() or feed()
  /// again.
  void feed(std::span<const float> samples, const Cancel* cancel = nullptr);
  /// No more samples come. Throws Error(argument) if there were none; after Error(cancelled) it may be called again.
  void finish(const Cancel* cancel = nullptr);
  /// The soft tokens so far: float[tokens][hidden size]. Valid until the next call.
  std::span<const float> rows() const;
  /// The sound, as it enters prompts. Throws Error(argument) before finish().
  std::shared_ptr<const Medium> medium() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gemlet
