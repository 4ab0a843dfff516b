#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "encoders/audio_usm.hpp"
#include "engine/cpu.hpp"
#include "gemlet/media.hpp"
#include "tensor/thread_pool.hpp"

namespace gemlet {

struct Encoders::Impl {
  Impl(const std::filesystem::path& path, const EngineOptions& options)
      : file(path),
        kernels(choose_kernels(options.kernels)),
        pool(choose_threads(options.threads)) {
    if (!AudioUsm::is_in(file)) {
      throw Error(Error::Kind::unsupported,
                  path.string() + ": holds no encoder for sound; expected the tensors of Gemma 3n's (\"a.*\"), in the "
                                  "model's file or in a separate one (\"mmproj\")");
    }
    Compute compute(kernels, pool);
    audio.emplace(file, compute);
  }

  GgufFile file;
  const kernels::Kernels& kernels;
  mutable ThreadPool pool;
  std::optional<AudioUsm> audio;
};

Encoders::Encoders() = default;
Encoders::~Encoders() = default;

std::shared_ptr<const Encoders> Encoders::load(const std::filesystem::path& path, const EngineOptions& options) {
  std::shared_ptr<Encoders> encoders(new Encoders);
  encoders->impl_ = std::make_unique<Impl>(path, options);
  return encoders;
}

bool Encoders::hears() const { return impl_->audio.has_value(); }
int Encoders::hidden_size() const { return static_cast<int>(impl_->audio->hidden_size()); }

struct SoundStream::Impl {
  explicit Impl(std::shared_ptr<const Encoders> from)
      : encoders(std::move(from)),
        compute(encoders->impl_->kernels, encoders->impl_->pool),
        sound(*encoders->impl_->audio, compute) {}

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

void SoundStream::feed(std::span<const float> samples, const Cancel* cancel) { impl_->sound.feed(samples, cancel); }
void SoundStream::finish(const Cancel* cancel) { impl_->sound.finish(cancel); }
std::span<const float> SoundStream::rows() const { return impl_->sound.rows(); }

}  // namespace gemlet
