#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <utility>

#include "bindings/c_api_call.hpp"
#include "bindings/c_api_handles.hpp"
#include "bindings/c_api_struct.hpp"
#include "bindings/c_api_values.hpp"
#include "gemlet/gemlet.h"
#include "gemlet/media.hpp"

namespace {

using gemlet::array;
using gemlet::checked;
using gemlet::Error;
using gemlet::guarded;
using gemlet::require;

using Use = gemlet::Use<gemlet_sound>;

const std::shared_ptr<const gemlet::Encoders>& encoders_of(const gemlet_encoders* encoders) {
  return checked(encoders, "encoders").encoders;
}

/// Asks a caller's callback whether to go on. Once it has said no, it is not called again.
class Progress {
 public:
  Progress(gemlet_on_progress on_progress, void* user) : on_progress_(on_progress), user_(user) {}

  void report(float share) {
    if (on_progress_ != nullptr && !cancel_.load() && on_progress_(user_, share) != 0) cancel_.store(true);
  }
  const gemlet::Cancel* cancel() const { return &cancel_; }

 private:
  gemlet_on_progress on_progress_;
  void* user_;
  gemlet::Cancel cancel_{false};
};

using Medium = std::shared_ptr<const gemlet::Medium>;

/// Encodes as `encode` says, given a Cancel and what takes the share that is done.
template <typename Encode>
void encode(gemlet_on_progress on_progress, void* user, gemlet_medium** medium, const Encode& encode) {
  Progress progress(on_progress, user);
  progress.report(0);
  Medium encoded;
  if (!progress.cancel()->load()) encoded = encode(progress.cancel(), [&](float share) { progress.report(share); });
  if (progress.cancel()->load()) throw Error(Error::Kind::cancelled, "encoding was cancelled by on_progress");
  *medium = new gemlet_medium{std::move(encoded)};
}

}  // namespace

gemlet_status gemlet_encoders_load(const char* path, const gemlet_engine_options* options, gemlet_encoders** encoders,
                                   gemlet_error* error) {
  return guarded(error, [&] {
    require(encoders, "encoders");
    *encoders = nullptr;
    require(path, "path");
    *encoders = new gemlet_encoders{gemlet::Encoders::load(path, gemlet::engine_options_of(options))};
  });
}

void gemlet_encoders_free(gemlet_encoders* encoders) { delete encoders; }

gemlet_status gemlet_encoders_info(const gemlet_encoders* encoders, gemlet_media_info* info, gemlet_error* error) {
  return guarded(error, [&] {
    const gemlet::Encoders& from = *encoders_of(encoders);
    require(info, "info");
    const std::size_t size = gemlet::checked_struct_size(info, gemlet::media_info_kind);
    gemlet_media_info out{};
    out.sees = from.sees() ? 1 : 0;
    out.hears = from.hears() ? 1 : 0;
    out.hidden_size = from.hidden_size();
    out.sample_rate = gemlet::SoundStream::sample_rate;
    gemlet::write_struct(info, size, out);
  });
}

gemlet_status gemlet_encode_picture(const gemlet_encoders* encoders, const gemlet_picture* picture,
                                    gemlet_on_progress on_progress, void* user, gemlet_medium** medium,
                                    gemlet_error* error) {
  return guarded(error, [&] {
    require(medium, "medium");
    *medium = nullptr;
    const gemlet::Encoders& eyes = *encoders_of(encoders);
    require(picture, "picture");
    const auto given = gemlet::read_struct<gemlet_picture>(picture, gemlet::picture_kind);
    const gemlet::Picture pixels = gemlet::picture_of(given);
    encode(on_progress, user, medium, [&](const gemlet::Cancel* cancel, const std::function<void(float)>& progress) {
      return eyes.encode(pixels, given.size, cancel, progress);
    });
  });
}

gemlet_status gemlet_encode_sound(const gemlet_encoders* encoders, const float* samples, size_t count,
                                  gemlet_on_progress on_progress, void* user, gemlet_medium** medium,
                                  gemlet_error* error) {
  return guarded(error, [&] {
    require(medium, "medium");
    *medium = nullptr;
    const gemlet::Encoders& ears = *encoders_of(encoders);
    const std::span<const float> all = array(samples, count, "samples");
    encode(on_progress, user, medium, [&](const gemlet::Cancel* cancel, const std::function<void(float)>& progress) {
      return ears.encode(all, cancel, progress);
    });
  });
}

void gemlet_medium_free(gemlet_medium* medium) { delete medium; }

size_t gemlet_medium_tokens(const gemlet_medium* medium) { return medium == nullptr ? 0 : medium->medium->count; }

gemlet_status gemlet_sound_new(const gemlet_encoders* encoders, gemlet_sound** sound, gemlet_error* error) {
  return guarded(error, [&] {
    require(sound, "sound");
    *sound = nullptr;
    *sound = new gemlet_sound{gemlet::SoundStream(encoders_of(encoders))};
  });
}

void gemlet_sound_free(gemlet_sound* sound) { gemlet::free_unless_lost(sound); }

gemlet_status gemlet_sound_feed(gemlet_sound* sound, const float* samples, size_t count, gemlet_error* error) {
  return guarded(error, [&] {
    const Use use(sound, "sound");
    use->stream.feed(array(samples, count, "samples"), use.cancel());
  });
}

gemlet_status gemlet_sound_finish(gemlet_sound* sound, gemlet_medium** medium, gemlet_error* error) {
  return guarded(error, [&] {
    require(medium, "medium");
    *medium = nullptr;
    const Use use(sound, "sound");
    use->stream.finish(use.cancel());
    *medium = new gemlet_medium{use->stream.medium()};
  });
}

void gemlet_sound_cancel(gemlet_sound* sound) {
  if (sound != nullptr) sound->cancel.store(true);
}
