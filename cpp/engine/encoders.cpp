#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "encoders/audio_usm.hpp"
#include "encoders/picture.hpp"
#include "encoders/vision_encoder.hpp"
#include "engine/cpu.hpp"
#include "gemlet/media.hpp"
#include "model/content_hash.hpp"
#include "tensor/at_fork.hpp"
#include "tensor/thread_pool.hpp"

namespace gemlet {
namespace {

/// What has been encoded, as long as somebody holds it.
class EncodedMedia {
 public:
  std::shared_ptr<const Medium> find(const ContentHash& content) const {
    const std::lock_guard lock(mutex_);
    const auto found = media_.find(content);
    return found == media_.end() ? nullptr : found->second.lock();
  }

  /// Returns the one of this content that is held already, or else `medium`.
  std::shared_ptr<const Medium> add(const std::shared_ptr<const Medium>& medium) {
    const std::lock_guard lock(mutex_);
    std::erase_if(media_, [](const auto& entry) { return entry.second.expired(); });
    std::weak_ptr<const Medium>& held = media_[medium->content];
    if (std::shared_ptr<const Medium> known = held.lock()) return known;
    held = medium;
    return medium;
  }

 private:
  mutable ForkMutex mutex_;
  std::map<ContentHash, std::weak_ptr<const Medium>> media_;
};

template <typename T>
void add_values(ContentHasher& hasher, std::span<const T> values) {
  hasher.add(std::as_bytes(values));
}

}  // namespace

struct Encoders::Impl {
  Impl(const std::filesystem::path& path, const EngineOptions& options)
      : file(path), kernels(choose_kernels(options.kernels)), pool(choose_threads(options.threads)) {
    read_intact(file, [&] { read_encoders(); });
    file.check_unchanged();  // while it was read
    if (!vision && !audio) {
      throw Error(Error::Kind::unsupported,
                  path.string() +
                      ": holds no encoder; expected tensors of Gemma's for pictures (\"v.*\") or sound "
                      "(\"a.*\"), in the model's file or in a separate one (\"mmproj\")");
    }
    if (vision && audio && vision->shape().hidden_size != audio->hidden_size()) {
      throw Error(Error::Kind::format, path.string() + ": its encoders are for different models: hidden sizes of " +
                                           std::to_string(vision->shape().hidden_size) + " and " +
                                           std::to_string(audio->hidden_size()));
    }
    file_fingerprint = fingerprint(file);
  }

  void read_encoders() {
    vision = VisionEncoder::read(file);
    if (AudioUsm::is_in(file)) {
      Compute compute(kernels, pool);
      audio.emplace(file, compute);
    }
  }

  const AudioUsm& ears() const {
    if (!audio) refuse("sound");
    return *audio;
  }
  const VisionEncoder& eyes() const {
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

  /// Begins the hash of a medium: what is encoded by others, or in another way, is something else.
  ContentHasher hasher(std::initializer_list<std::uint64_t> how) const {
    ContentHasher hasher;
    add_values<std::uint64_t>(hasher, {{file_fingerprint}});
    add_values<std::uint64_t>(hasher, how);
    return hasher;
  }
  ContentHash hash_of(const Picture& picture, std::size_t size) const {
    ContentHasher all = hasher({picture.width, picture.height, size});
    RgbRows rows(picture);
    for (std::size_t y = 0; y < picture.height; ++y) add_values<std::uint8_t>(all, {rows.row(y), 3 * picture.width});
    return all.hash();
  }
  ContentHasher sound_hasher() const { return hasher({SoundStream::sample_rate}); }

  std::shared_ptr<const Medium> make_medium(const std::string& begin, const std::string& end, std::vector<float> rows,
                                            const ContentHash& content) {
    check_numbers(rows);
    auto medium = std::make_shared<Medium>();
    medium->begin = begin;
    medium->end = end;
    medium->count = rows.size() / static_cast<std::size_t>(hidden_size());
    medium->content = content;
    medium->rows = std::make_shared<const std::vector<float>>(std::move(rows));
    return encoded.add(medium);
  }

  int hidden_size() const { return static_cast<int>(audio ? audio->hidden_size() : vision->shape().hidden_size); }

  GgufFile file;
  std::uint64_t file_fingerprint = 0;
  const kernels::Kernels& kernels;
  ThreadPool pool;
  std::unique_ptr<const VisionEncoder> vision;
  std::optional<AudioUsm> audio;
  EncodedMedia encoded;
};

Encoders::Encoders() = default;
Encoders::~Encoders() = default;

std::shared_ptr<const Encoders> Encoders::load(const std::filesystem::path& path, const EngineOptions& options) {
  std::shared_ptr<Encoders> encoders(new Encoders);
  encoders->impl_ = std::make_unique<Impl>(path, options);
  return encoders;
}

bool Encoders::sees() const { return impl_->vision != nullptr; }
bool Encoders::hears() const { return impl_->audio.has_value(); }
int Encoders::hidden_size() const { return impl_->hidden_size(); }
int Encoders::picture_size() const {
  return impl_->vision == nullptr ? 0 : static_cast<int>(impl_->vision->shape().default_size);
}
int Encoders::picture_tokens() const {
  return impl_->vision == nullptr ? 0 : static_cast<int>(impl_->vision->shape().rows);
}

std::shared_ptr<const Medium> Encoders::encode(const Picture& picture, int size, const Cancel* cancel,
                                               const std::function<void(float)>& progress) const {
  const VisionEncoder& eyes = impl_->eyes();
  if (size != 0) eyes.check_size(size);
  const std::size_t side = size == 0 ? eyes.shape().default_size : static_cast<std::size_t>(size);
  check_picture(picture);
  const ContentHash content = impl_->hash_of(picture, side);
  if (std::shared_ptr<const Medium> known = impl_->encoded.find(content)) {
    if (progress) progress(1);
    return known;
  }
  impl_->file.check_unchanged();
  Compute compute(impl_->kernels, impl_->pool);
  std::vector<float> rows = eyes.encode(resize(picture, side, side, cancel), side, compute, cancel, progress);
  impl_->file.check_unchanged();
  return impl_->make_medium(eyes.shape().begin, eyes.shape().end, std::move(rows), content);
}

std::shared_ptr<const Medium> Encoders::encode(std::span<const float> samples, const Cancel* cancel,
                                               const std::function<void(float)>& progress) const {
  ContentHasher hasher = impl_->sound_hasher();
  add_values(hasher, samples);
  if (std::shared_ptr<const Medium> known = impl_->encoded.find(hasher.hash())) {
    if (progress) progress(1);
    return known;
  }
  SoundStream stream(shared_from_this());
  const std::size_t count = samples.size();
  constexpr std::size_t at_once = SoundStream::sample_rate;
  while (!samples.empty()) {
    const std::size_t next = std::min(samples.size(), at_once);
    stream.feed(samples.first(next), cancel);
    samples = samples.subspan(next);
    if (progress) progress(1 - static_cast<float>(samples.size()) / static_cast<float>(count));
  }
  stream.finish(cancel);
  return stream.medium();
}

struct SoundStream::Impl {
  explicit Impl(std::shared_ptr<const Encoders> from)
      : encoders(std::move(from)),
        compute(encoders->impl_->kernels, encoders->impl_->pool),
        sound(encoders->impl_->ears(), compute),
        hasher(encoders->impl_->sound_hasher()) {}

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
  ContentHasher hasher;  // of the samples so far
  bool finished = false;
};

SoundStream::SoundStream(std::shared_ptr<const Encoders> encoders) {
  if (encoders == nullptr) throw Error(Error::Kind::argument, "a sound needs encoders");
  impl_ = std::make_unique<Impl>(std::move(encoders));
}
SoundStream::~SoundStream() = default;
SoundStream::SoundStream(SoundStream&&) noexcept = default;
SoundStream& SoundStream::operator=(SoundStream&&) noexcept = default;

void SoundStream::feed(std::span<const float> samples, const Cancel* cancel) {
  impl_->hear([&] {
    impl_->sound.check(samples);
    add_values(impl_->hasher, samples);
    impl_->sound.feed(samples, cancel);
  });
}
void SoundStream::finish(const Cancel* cancel) {
  impl_->hear([&] { impl_->sound.finish(cancel); });
  impl_->encoders->impl_->file.check_unchanged();
  impl_->finished = true;
}
std::span<const float> SoundStream::rows() const {
  impl_->encoders->impl_->file.check_intact();
  return impl_->sound.rows();
}

std::shared_ptr<const Medium> SoundStream::medium() const {
  if (!impl_->finished) throw Error(Error::Kind::argument, "the sound is not finished: call finish() first");
  Encoders::Impl& encoders = *impl_->encoders->impl_;
  const std::span<const float> soft = impl_->sound.rows();
  std::vector<float> rows(soft.begin(), soft.end());
  encoders.ears().close(rows, impl_->compute);
  encoders.file.check_intact();
  return encoders.make_medium(AudioUsm::begin, "", std::move(rows), impl_->hasher.hash());
}

}  // namespace gemlet
