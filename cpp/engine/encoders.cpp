#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "encoders/audio_usm.hpp"
#include "encoders/picture.hpp"
#include "encoders/vision_mobilenet_v5.hpp"
#include "engine/cpu.hpp"
#include "gemlet/media.hpp"
#include "tensor/thread_pool.hpp"

namespace gemlet {

struct Encoders::Impl {
  Impl(const std::filesystem::path& path, const EngineOptions& options)
      : file(path), kernels(choose_kernels(options.kernels)), pool(choose_threads(options.threads)) {
    read_intact(file, [&] { read_encoders(); });
    file.check_unchanged();  // while it was read
    if (!vision && !audio) {
      throw Error(Error::Kind::unsupported,
                  path.string() +
                      ": holds no encoder; expected tensors of Gemma 3n's for pictures (\"v.*\") or sound "
                      "(\"a.*\"), in the model's file or in a separate one (\"mmproj\")");
    }
    if (vision && audio && vision->soft_tokens().hidden_size() != audio->hidden_size()) {
      throw Error(Error::Kind::format, path.string() + ": its encoders are for different models: hidden sizes of " +
                                           std::to_string(vision->soft_tokens().hidden_size()) + " and " +
                                           std::to_string(audio->hidden_size()));
    }
  }

  void read_encoders() {
    if (VisionMobileNetV5::is_in(file)) vision.emplace(file);
    if (AudioUsm::is_in(file)) {
      Compute compute(kernels, pool);
      audio.emplace(file, compute);
    }
  }

  const AudioUsm& ears() const {
    if (!audio) refuse("sound");
    return *audio;
  }
  const VisionMobileNetV5& eyes() const {
    if (!vision) refuse("pictures");
    return *vision;
  }
  [[noreturn]] void refuse(const char* medium) const {
    throw Error(Error::Kind::unsupported,
                file.parts().front().file.path().string() + ": holds no encoder for " + medium);
  }

  /// Throws Error(format) if an encoder computed anything that is not a finite number.
  void check_numbers(std::span<const float> rows) const {
    if (std::all_of(rows.begin(), rows.end(), [](float v) { return std::isfinite(v); })) return;
    throw Error(Error::Kind::format,
                file.path().string() + ": the encoder computes values that are not numbers; its weights are damaged");
  }

  GgufFile file;
  const kernels::Kernels& kernels;
  mutable ThreadPool pool;
  std::optional<VisionMobileNetV5> vision;
  std::optional<AudioUsm> audio;
};

Encoders::Encoders() = default;
Encoders::~Encoders() = default;

std::shared_ptr<const Encoders> Encoders::load(const std::filesystem::path& path, const EngineOptions& options) {
  std::shared_ptr<Encoders> encoders(new Encoders);
  encoders->impl_ = std::make_unique<Impl>(path, options);
  return encoders;
}

bool Encoders::sees() const { return impl_->vision.has_value(); }
bool Encoders::hears() const { return impl_->audio.has_value(); }
int Encoders::hidden_size() const {
  return static_cast<int>(impl_->audio ? impl_->audio->hidden_size() : impl_->vision->soft_tokens().hidden_size());
}

std::vector<float> Encoders::encode(const Picture& picture, int size, const Cancel* cancel,
                                    const std::function<void(float)>& progress) const {
  const VisionMobileNetV5& eyes = impl_->eyes();
  if (size != 256 && size != 512 && size != 768) {
    throw Error(Error::Kind::argument, "size is " + std::to_string(size) + ", expected 256, 512 or 768");
  }
  impl_->file.check_unchanged();
  Compute compute(impl_->kernels, impl_->pool);
  std::vector<float> rows =
      eyes.encode(prepare_picture(picture, static_cast<std::size_t>(size), cancel), compute, cancel, progress);
  impl_->file.check_unchanged();
  impl_->check_numbers(rows);
  return rows;
}

struct SoundStream::Impl {
  explicit Impl(std::shared_ptr<const Encoders> from)
      : encoders(std::move(from)),
        compute(encoders->impl_->kernels, encoders->impl_->pool),
        sound(encoders->impl_->ears(), compute) {}

  /// Nothing that was computed from a damaged file is given away.
  template <typename Hear>
  void hear(const Hear& call) {
    const GgufFile& file = encoders->impl_->file;
    file.check_intact();
    const std::size_t before = sound.rows().size();
    call();
    file.check_intact();
    encoders->impl_->check_numbers(sound.rows().subspan(before));
  }

  std::shared_ptr<const Encoders> encoders;
  Compute compute;
  AudioUsm::Sound sound;
};

SoundStream::SoundStream(std::shared_ptr<const Encoders> encoders) {
  if (encoders == nullptr) throw Error(Error::Kind::argument, "a sound needs encoders");
  impl_ = std::make_unique<Impl>(std::move(encoders));
}
SoundStream::~SoundStream() = default;
SoundStream::SoundStream(SoundStream&&) noexcept = default;
SoundStream& SoundStream::operator=(SoundStream&&) noexcept = default;

void SoundStream::feed(std::span<const float> samples, const Cancel* cancel) {
  impl_->hear([&] { impl_->sound.feed(samples, cancel); });
}
void SoundStream::finish(const Cancel* cancel) {
  impl_->hear([&] { impl_->sound.finish(cancel); });
  impl_->encoders->impl_->file.check_unchanged();
}
std::span<const float> SoundStream::rows() const {
  impl_->encoders->impl_->file.check_intact();
  return impl_->sound.rows();
}

}  // namespace gemlet
