#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "capi_arguments.hpp"
#include "capi_calls.hpp"
#include "fuzz_input.hpp"
#include "gemlet/gemlet.h"
#include "tiny_encoders.hpp"

// The calls of the C API for pictures and sounds.
namespace fuzz {

/// A picture, and as many bytes as its rows have, so that to read further is a broken promise.
class Pixels {
 public:
  explicit Pixels(Input& input) {
    picture_.width = 1 + input.below(40);
    picture_.height = 1 + input.below(40);
    picture_.format = static_cast<std::int32_t>(input.below(3));
    const std::size_t pixel = picture_.format == GEMLET_RGB8 ? 3 : 4;
    picture_.stride = input.flag() ? pixel * picture_.width + input.below(4) : 0;
    picture_.size = odd(input) ? static_cast<std::int8_t>(input.byte()) - 128 : 256;  // the smallest is quick
    if (odd(input)) picture_.width = input.hostile(picture_.width);
    if (odd(input)) picture_.height = input.hostile(picture_.height);
    if (odd(input)) picture_.stride = input.hostile(picture_.stride);
    if (odd(input)) picture_.format = small_number(input);
    bytes_.resize(bytes_of(picture_));
    const std::uint8_t step = input.byte();
    for (std::size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<std::uint8_t>(i * step);
    picture_.pixels = odd(input) ? nullptr : bytes_.data();
  }
  const gemlet_picture& picture() const { return picture_; }

 private:
  static constexpr std::size_t most_bytes = 1 << 16;

  /// Those of its rows; a picture whose rows take too long loses some, and one that is none has a few.
  static std::size_t bytes_of(gemlet_picture& picture) {
    const auto is_side = [](std::size_t pixels) { return pixels > 0 && pixels <= 65536; };
    const std::size_t pixel = picture.format == GEMLET_RGB8 ? 3 : 4;
    if (!is_side(picture.width) || !is_side(picture.height)) return 16;
    const std::size_t stride = picture.stride == 0 ? pixel * picture.width : picture.stride;
    if (stride < pixel * picture.width || stride > SIZE_MAX / 2) return 16;
    picture.height = std::min(picture.height, std::max<std::size_t>(most_bytes / stride, 1));
    if (picture.height == 1) return std::min(stride, pixel * picture.width);
    return stride * picture.height;
  }

  gemlet_picture picture_{};
  std::vector<std::uint8_t> bytes_;
};

/// A sound, one of whose samples may be none.
class Samples {
 public:
  explicit Samples(Input& input) : samples_(input.below(8) * 150) {
    const float step = static_cast<float>(input.byte()) / 256;
    for (std::size_t i = 0; i < samples_.size(); ++i) samples_[i] = step * (i % 7 < 3 ? 0.5F : -0.5F);
    constexpr std::array bad = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e30F,
                                1.5F, -0.0F};
    const bool has_bad = odd(input);
    if (has_bad && !samples_.empty()) samples_[input.byte() % samples_.size()] = bad[input.below(bad.size())];
    null_ = odd(input);
  }
  const float* data() const { return null_ ? nullptr : samples_.data(); }
  std::size_t count() const { return samples_.size(); }

 private:
  std::vector<float> samples_;
  bool null_ = false;
};

/// The encoders that inputs use.
struct Towers {
  gemlet_encoders* of_model;
  gemlet_encoders* of_another;  ///< whose media do not fit the engine
  std::string path;             ///< of the first
};

inline gemlet_encoders* load_encoders(const std::string& path) {
  gemlet_engine_options options{};
  options.struct_size = sizeof(options);
  options.threads = 1;
  gemlet_encoders* encoders = nullptr;
  expect(gemlet_encoders_load(path.c_str(), &options, &encoders, nullptr) == GEMLET_OK, "the tiny encoders load");
  return encoders;
}

inline gguf::Builder tiny_ears(std::uint64_t hidden) {
  gguf::Builder file;
  file.add_string("general.architecture", "clip");
  file.add_u32("clip.audio.filled_soft_tokens", 0);  // a sound takes few places
  tiny::add_audio_encoder(file, hidden);
  return file;
}

inline Towers load_towers(const gguf::TemporaryDirectory& directory, std::uint64_t hidden) {
  gguf::Builder both = tiny_ears(hidden);
  tiny::add_vision_encoder(both, hidden);
  const std::string path = directory.write("mmproj.gguf", both.build().bytes).string();
  const std::string other = directory.write("other.gguf", tiny_ears(hidden + 32).build().bytes).string();
  return {load_encoders(path), load_encoders(other), path};
}

/// The media and the sounds of an input.
class Media {
 public:
  explicit Media(const Towers& towers) : towers_(towers) {}
  ~Media() {
    for (gemlet_medium* medium : media_) gemlet_medium_free(medium);
    for (gemlet_sound* sound : sounds_) gemlet_sound_free(sound);
  }
  Media(const Media&) = delete;
  Media& operator=(const Media&) = delete;

  std::span<gemlet_medium* const> all() const { return media_; }

  void load(Input& input, const std::string& other_path) {
    if (++loads_ > 2) return;
    const Failure failure(input);
    gemlet_engine_options options{};
    options.threads = input.below(4) == 3 ? -1 : 1;
    const Struct<gemlet_engine_options> given(input, options);
    const std::string& path = input.flag() ? other_path : towers_.path;
    gemlet_encoders* made = nullptr;
    const bool loaded = failure.check(gemlet_encoders_load(path.c_str(), given.pointer(), &made, failure.pointer()));
    expect(loaded == (made != nullptr), "encoders that could not be loaded are NULL");
    gemlet_encoders_free(made);
  }

  void info(Input& input) const {
    const Failure failure(input);
    const Struct<gemlet_media_info> info(input);
    if (failure.check(gemlet_encoders_info(encoders(input), info.pointer(), failure.pointer()))) {
      expect(info.get()->hears == 1 && info.get()->hidden_size > 0, "encoders are for a model");
    }
  }

  void encode_picture(Input& input) {
    if (++pictures_ > 2) return;
    make_medium(input, [&](const gemlet_encoders* from, gemlet_on_progress progress, void* user, gemlet_medium** made,
                           gemlet_error* error) {
      const Pixels pixels(input);
      const Struct<gemlet_picture> picture(input, pixels.picture());
      return gemlet_encode_picture(from, picture.pointer(), progress, user, made, error);
    });
  }

  void encode_sound(Input& input) {
    make_medium(input, [&](const gemlet_encoders* from, gemlet_on_progress progress, void* user, gemlet_medium** made,
                           gemlet_error* error) {
      const Samples samples(input);
      return gemlet_encode_sound(from, samples.data(), samples.count(), progress, user, made, error);
    });
  }

  void free_medium(Input& input) { put(input, nullptr); }

  void begin_sound(Input& input) {
    const Failure failure(input);
    gemlet_sound* made = nullptr;
    const bool succeeded =
        failure.check(gemlet_sound_new(encoders(input), odd(input) ? nullptr : &made, failure.pointer()));
    expect(succeeded == (made != nullptr), "a sound that could not be made is NULL");
    if (!succeeded) return;
    gemlet_sound*& place = sound(input);
    gemlet_sound_free(place);
    place = made;
  }

  void feed(Input& input) {
    const Failure failure(input);
    gemlet_sound* on = sound(input);
    const Samples samples(input);
    failure.check(gemlet_sound_feed(on, samples.data(), samples.count(), failure.pointer()));
  }

  void finish(Input& input) {
    const Failure failure(input);
    gemlet_sound* on = sound(input);
    gemlet_medium* made = nullptr;
    const bool succeeded = failure.check(gemlet_sound_finish(on, odd(input) ? nullptr : &made, failure.pointer()));
    keep(input, succeeded, made);
  }

  void cancel(Input& input) { gemlet_sound_cancel(sound(input)); }

  void free_sound(Input& input) {
    gemlet_sound*& freed = sound(input);
    gemlet_sound_free(freed);
    freed = nullptr;
  }

 private:
  struct Listener {
    const gemlet_encoders* encoders;
    std::size_t callback;
    std::size_t calls = 0;
    float share = 0;
  };

  static int on_progress(void* user, float share) {
    auto& listener = *static_cast<Listener*>(user);
    expect(listener.calls == 0 ? share == 0 : share >= listener.share && share <= 1, "progress goes from 0 to 1");
    listener.share = share;
    ++listener.calls;
    if (listener.callback == use_encoders) {
      const std::array<float, 200> samples{};
      gemlet_medium* made = nullptr;
      expect(gemlet_encode_sound(listener.encoders, samples.data(), samples.size(), nullptr, nullptr, &made, nullptr) ==
                 GEMLET_OK,
             "encoders may be used while they encode");
      gemlet_medium_free(made);
    }
    expect(listener.callback != stop_at_second || listener.calls <= 2, "after a stop there are no more calls");
    return listener.callback == stop_at_first || (listener.callback == stop_at_second && listener.calls == 2) ? 1 : 0;
  }

  const gemlet_encoders* encoders(Input& input) const {
    const std::uint8_t kind = input.byte();
    return kind % 16 == 15 ? nullptr : kind % 16 == 14 ? towers_.of_another : towers_.of_model;
  }
  gemlet_sound*& sound(Input& input) { return sounds_[input.below(sounds_.size())]; }

  void put(Input& input, gemlet_medium* made) {
    gemlet_medium*& place = media_[input.below(media_.size())];
    gemlet_medium_free(place);
    place = made;
  }

  void keep(Input& input, bool succeeded, gemlet_medium* made) {
    expect(succeeded == (made != nullptr), "a medium that could not be made is NULL");
    if (!succeeded) return;
    expect(gemlet_medium_tokens(made) > 0, "a medium takes places");
    put(input, made);
  }

  template <typename Make>
  void make_medium(Input& input, const Make& make) {
    const Failure failure(input);
    const gemlet_encoders* from = encoders(input);
    Listener listener{from, input.below(progress_callbacks)};
    gemlet_medium* made = nullptr;
    gemlet_medium** given = odd(input) ? nullptr : &made;
    const gemlet_status status =
        make(from, listener.callback == no_progress ? nullptr : on_progress, &listener, given, failure.pointer());
    expect(listener.callback != stop_at_first || status != GEMLET_OK, "what was stopped does not succeed");
    keep(input, failure.check(status), made);
  }

  const Towers& towers_;
  std::array<gemlet_medium*, 3> media_{};
  std::array<gemlet_sound*, 2> sounds_{};
  std::size_t pictures_ = 0;
  std::size_t loads_ = 0;
};

}  // namespace fuzz
