#include <array>
#include <cstddef>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "capi_arguments.hpp"
#include "capi_calls.hpp"
#include "capi_media.hpp"
#include "fuzz_input.hpp"
#include "gemlet/gemlet.h"
#include "tiny_gemma3n.hpp"

// Any bytes as a sequence of calls of the C API, with arguments that are good or what the header says is answered with
// an error: NULL, other sizes, ids that there are not, sessions in use. What the header promises is checked.
namespace {

using fuzz::Buffer;
using fuzz::expect;
using fuzz::Failure;
using fuzz::Input;
using fuzz::odd;
using fuzz::read_tokens;
using fuzz::small_number;
using fuzz::Struct;
using fuzz::Tokens;
using fuzz::Turns;

constexpr std::size_t most_calls = 48;

std::size_t length_of(gemlet_session* session) {
  std::size_t count = 0;
  expect(gemlet_session_tokens(session, nullptr, 0, &count, nullptr) == GEMLET_OK, "a session has tokens");
  return count;
}

class Program {
 public:
  Program(const gguf::TemporaryDirectory& directory, std::string model, gemlet_engine* engine,
          const fuzz::Towers& towers)
      : directory_(directory), model_(std::move(model)), engine_(engine), media_(towers) {}
  ~Program() {
    for (gemlet_session* session : sessions_) gemlet_session_free(session);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void run(Input& input) {
    gemlet_session_new(engine_, 0, &sessions_[0], nullptr);
    for (std::size_t i = 0; i < most_calls && !input.empty(); ++i) call(input);
  }

 private:
  const gemlet_engine* engine(Input& input) const { return odd(input) ? nullptr : engine_; }
  gemlet_session*& session(Input& input) { return sessions_[input.below(sessions_.size())]; }

  std::string path(Input& input) const {
    const std::string folder = directory_.path().string();
    switch (input.below(8)) {
      case 3:
        return model_;
      case 4:
        return folder;
      case 5:
        return folder + "/missing/session";
      case 6:
        return "";
      case 7:
        return folder + "/" + std::string(300, 'a');
      default:
        return folder + "/session" + std::to_string(input.below(2));
    }
  }

  /// A session that a call made, or NULL, takes the place of another.
  void keep(Input& input, bool made, gemlet_session* given, gemlet_session* old) {
    expect(made == (given != nullptr) || given == old, "a handle that could not be made is NULL");
    if (given == old) return;
    gemlet_session*& place = session(input);
    gemlet_session_free(place);
    place = given;
  }

  /// A function that makes a session from the other arguments.
  template <typename Make>
  void make_session(Input& input, const Make& make) {
    const Failure failure(input);
    auto* const untouched = reinterpret_cast<gemlet_session*>(this);
    gemlet_session* made = untouched;
    const bool succeeded = failure.check(make(odd(input) ? nullptr : &made, failure.pointer()));
    keep(input, succeeded, made, untouched);
  }

  void load(Input& input) {
    if (++loads_ > 2) return;
    const Failure failure(input);
    gemlet_engine_options options{};
    options.threads = input.below(4) == 3 ? -1 : 1;
    options.context = small_number(input);
    options.chunk = static_cast<std::int8_t>(input.byte());
    constexpr std::array caches = {"f16", "f32", "int8", "int9", ""};
    options.cache = odd(input) ? nullptr : caches[input.below(caches.size())];
    const std::string slice = input.text();
    options.slice = slice.empty() ? nullptr : slice.c_str();
    const Struct<gemlet_engine_options> given(input, options);
    const std::string file = input.flag() ? path(input) : model_;
    gemlet_engine* made = nullptr;
    const bool loaded = failure.check(gemlet_engine_load(file.c_str(), given.pointer(), &made, failure.pointer()));
    expect(loaded == (made != nullptr), "an engine that could not be loaded is NULL");
    gemlet_engine_free(made);
  }

  void info(Input& input) const {
    const Failure failure(input);
    const Struct<gemlet_model_info> info(input);
    if (failure.check(gemlet_engine_info(engine(input), info.pointer(), failure.pointer()))) {
      expect(info.get()->vocabulary > 0 && info.get()->architecture != nullptr, "a model has a vocabulary");
    }
  }

  void hyperparameter(Input& input) const {
    const Failure failure(input);
    const gemlet_engine* from = engine(input);
    const char* known = gemlet_engine_hyperparameter_name(from, input.byte());
    const std::string name = known == nullptr || odd(input) ? input.text() : known;
    Buffer<char> text(input);
    if (failure.check(gemlet_engine_hyperparameter(from, name.c_str(), text.data(), text.capacity(), text.count(),
                                                   failure.pointer()))) {
      expect(text.total() > 0, "a field has a value");
    }
  }

  void tokenize(Input& input) const {
    const Failure failure(input);
    Buffer<std::int32_t> tokens(input);
    const std::string text = input.text();
    const int bos = input.byte();
    const int special = input.byte();
    const char* given = odd(input) ? nullptr : text.data();
    if (!failure.check(gemlet_tokenize(engine(input), given, text.size(), bos, special, tokens.data(),
                                       tokens.capacity(), tokens.count(), failure.pointer()))) {
      return;
    }
    std::size_t length = 0;
    const auto written = tokens.written();
    expect(gemlet_detokenize(engine_, written.data(), written.size(), 1, nullptr, 0, &length, nullptr) == GEMLET_OK,
           "tokens stand for bytes");
  }

  void detokenize(Input& input) const {
    const Failure failure(input);
    const gemlet_engine* from = engine(input);
    const Tokens tokens = read_tokens(input);
    Buffer<char> text(input);
    const int special = input.byte();
    if (failure.check(gemlet_detokenize(from, tokens.data(), tokens.ids.size(), special, text.data(), text.capacity(),
                                        text.count(), failure.pointer())) &&
        text.total() < text.capacity() && text.data() != nullptr) {
      expect(text.data()[text.total()] == '\0', "a zero byte follows the text where there is room");
    }
  }

  void find_token(Input& input) const {
    const Failure failure(input);
    constexpr std::array known = {"<end_of_turn>", "hello", "<0x41>", "\u2581"};
    const std::string piece = odd(input) ? input.text() : known[input.below(known.size())];
    std::int32_t token = -1;
    const char* given = odd(input) ? nullptr : piece.data();
    std::int32_t* found = odd(input) ? nullptr : &token;
    if (failure.check(gemlet_find_token(engine(input), given, piece.size(), found, failure.pointer()))) {
      int is_end = -1;
      expect(gemlet_is_end(engine_, token, &is_end, nullptr) == GEMLET_OK && is_end >= 0, "a token ends or does not");
    }
  }

  void is_end(Input& input) const {
    const Failure failure(input);
    const gemlet_engine* from = engine(input);
    const auto token = static_cast<std::int32_t>(input.number(4));
    int is_end = 0;
    failure.check(gemlet_is_end(from, token, odd(input) ? nullptr : &is_end, failure.pointer()));
  }

  void prompt(Input& input) const {
    const Failure failure(input);
    const gemlet_engine* from = engine(input);
    const Turns turns(input, media_.all());
    Buffer<std::int32_t> tokens(input);
    const std::int32_t end = input.byte() % 4;
    if (failure.check(gemlet_prompt(from, turns.data(), turns.count(), end, tokens.data(), tokens.capacity(),
                                    tokens.count(), failure.pointer()))) {
      expect(tokens.total() > 1, "a prompt has tokens");
      expect(!turns.have_media() || tokens.capacity() == 0, "media are no tokens");
    }
  }

  void advance_to_turns(Input& input) {
    const Failure failure(input);
    gemlet_session* on = session(input);
    const Turns turns(input, media_.all());
    const std::int32_t end = input.byte() % 4;
    std::size_t reused = 0;
    const bool done = failure.check(gemlet_session_advance_to_turns(on, turns.data(), turns.count(), end,
                                                                    odd(input) ? nullptr : &reused, failure.pointer()));
    if (!done) return;
    std::size_t count = 0;
    expect(gemlet_prompt(engine_, turns.data(), turns.count(), end, nullptr, 0, &count, nullptr) == GEMLET_OK &&
               length_of(on) == count && reused < count,
           "it has just the conversation");
  }

  void session_tokens(Input& input) {
    const Failure failure(input);
    Buffer<std::int32_t> tokens(input);
    failure.check(
        gemlet_session_tokens(session(input), tokens.data(), tokens.capacity(), tokens.count(), failure.pointer()));
  }

  void prefill(Input& input) {
    const Failure failure(input);
    gemlet_session* on = session(input);
    const Tokens tokens = read_tokens(input);
    const std::size_t before = on == nullptr ? 0 : length_of(on);
    const bool done = failure.check(gemlet_session_prefill(on, tokens.data(), tokens.ids.size(), failure.pointer()));
    if (on == nullptr) return;
    expect(length_of(on) == before + (done ? tokens.ids.size() : 0), "a prefill appends its tokens or nothing");
  }

  void advance_to(Input& input) {
    const Failure failure(input);
    gemlet_session* on = session(input);
    const Tokens tokens = read_tokens(input);
    std::size_t reused = 0;
    const bool done = failure.check(gemlet_session_advance_to(on, tokens.data(), tokens.ids.size(),
                                                              odd(input) ? nullptr : &reused, failure.pointer()));
    if (done) expect(length_of(on) == tokens.ids.size() && reused < tokens.ids.size(), "it has just these tokens");
  }

  void logits(Input& input) {
    const Failure failure(input);
    Buffer<float> logits(input, 400);
    if (failure.check(gemlet_session_logits(session(input), logits.data(), logits.capacity(), logits.count(),
                                            failure.pointer()))) {
      for (const float value : logits.written()) expect(value == value, "logits are numbers");
    }
  }

  void rewind(Input& input) {
    const Failure failure(input);
    gemlet_session* on = session(input);
    const std::int32_t position = small_number(input);
    if (failure.check(gemlet_session_rewind(on, position, failure.pointer()))) {
      expect(length_of(on) == static_cast<std::size_t>(position), "a session is rewound to a position");
    }
  }

  void save(Input& input) {
    const Failure failure(input);
    gemlet_session* on = session(input);
    const std::string file = path(input);
    const bool saved = failure.check(gemlet_session_save(on, odd(input) ? nullptr : file.c_str(), failure.pointer()));
    expect(!saved || file != model_, "no session is written over the model");
  }

  void sampling_init(Input& input) const {
    const Struct<gemlet_sampling> sampling(input);
    const std::size_t size = sampling.get()->struct_size;
    sampling.get()->temperature = -1;
    gemlet_sampling_init(sampling.pointer(), size);
    const bool fits = sampling.pointer() != nullptr && size >= sizeof(gemlet_sampling) && size <= 4096;
    expect((sampling.get()->temperature == 1) == fits, "the defaults are written where there is room");
  }

  gemlet_sampling read_sampling(Input& input) const {
    gemlet_sampling out{};
    gemlet_sampling_init(&out, sizeof(out));
    const auto number = [&] {
      constexpr std::array values = {0.0F,
                                     0.5F,
                                     1.0F,
                                     2.0F,
                                     -1.0F,
                                     1e-30F,
                                     1e30F,
                                     std::numeric_limits<float>::infinity(),
                                     std::numeric_limits<float>::quiet_NaN()};
      return values[input.below(values.size())];
    };
    if (input.flag()) out.temperature = number();
    if (input.flag()) out.top_k = small_number(input);
    if (input.flag()) out.top_p = number();
    if (input.flag()) out.min_p = number();
    if (input.flag()) out.repetition_penalty = number();
    if (input.flag()) out.presence_penalty = number();
    if (input.flag()) out.frequency_penalty = number();
    out.seed = input.byte();
    return out;
  }

  struct Listener {
    gemlet_session* session;
    std::size_t callback;
    std::size_t pieces = 0;
    std::string text{};
  };

  static int on_text(void* user, const char* text, std::size_t length) {
    auto& listener = *static_cast<Listener*>(user);
    listener.text.append(text, length);
    ++listener.pieces;
    if (listener.callback == fuzz::cancel_session) gemlet_session_cancel(listener.session);
    if (listener.callback == fuzz::use_session) {
      const std::int32_t token = 5;
      expect(gemlet_session_prefill(listener.session, &token, 1, nullptr) == GEMLET_ARGUMENT, "one call at a time");
    }
    return listener.callback == fuzz::stop_at_third && listener.pieces == 3 ? 1 : 0;
  }

  void generate(Input& input) {
    const Failure failure(input);
    gemlet_session* on = session(input);
    Listener listener{on, input.below(fuzz::callbacks)};
    const Tokens tokens = read_tokens(input);
    const std::unique_ptr<Turns> turns = input.flag() ? std::make_unique<Turns>(input, media_.all()) : nullptr;
    const Struct<gemlet_sampling> sampling(input, read_sampling(input));
    std::vector<std::string> stops;
    for (std::size_t count = input.below(4); count > 0; --count) stops.push_back(input.text());
    std::vector<const char*> stop;
    for (const std::string& text : stops) stop.push_back(text == "NULL" ? nullptr : text.c_str());
    Buffer<std::int32_t> completion(input);
    gemlet_request request{};
    request.turns = turns == nullptr ? nullptr : turns->data();
    request.turn_count = turns == nullptr ? 0 : turns->count();
    const bool with_prompt = turns == nullptr || odd(input);
    request.prompt = with_prompt ? tokens.data() : nullptr;
    request.prompt_count = with_prompt ? tokens.ids.size() : 0;
    request.sampling = sampling.pointer();
    request.stop = odd(input) ? nullptr : stop.data();
    request.stop_count = stop.size();
    request.on_text = listener.callback == fuzz::no_callback ? nullptr : on_text;
    request.user = &listener;
    request.completion = completion.data();
    request.completion_capacity = completion.capacity();
    request.max_tokens = small_number(input) % 16;
    request.speculate = input.byte() % 4;
    const Struct<gemlet_request> given(input, request);
    const Struct<gemlet_stats> stats(input);
    const gemlet_status status = gemlet_generate(on, given.pointer(), stats.pointer(), failure.pointer());
    if (!failure.check(status)) return;
    for (const char* text : stop) {
      expect(listener.text.find(text) == std::string::npos, "the text ends before a stop string");
    }
    if (stats.pointer() == nullptr) return;
    expect(stats.get()->prompt_tokens > 0 && stats.get()->generated_tokens >= 0, "a completion has a prompt");
    expect(length_of(on) >= static_cast<std::size_t>(stats.get()->prompt_tokens), "the session holds the prompt");
  }

  void call(Input& input) {
    switch (input.below(fuzz::calls)) {
      case fuzz::no_call:
        return;
      case fuzz::call_load:
        return load(input);
      case fuzz::call_info:
        return info(input);
      case fuzz::call_hyperparameter:
        return hyperparameter(input);
      case fuzz::call_tokenize:
        return tokenize(input);
      case fuzz::call_detokenize:
        return detokenize(input);
      case fuzz::call_find_token:
        return find_token(input);
      case fuzz::call_is_end:
        return is_end(input);
      case fuzz::call_prompt:
        return prompt(input);
      case fuzz::call_session_new:
        return make_session(input, [&](gemlet_session** made, gemlet_error* error) {
          const gemlet_engine* from = engine(input);
          return gemlet_session_new(from, small_number(input), made, error);
        });
      case fuzz::call_session_free: {
        gemlet_session*& freed = session(input);
        gemlet_session_free(freed);
        freed = nullptr;
        return;
      }
      case fuzz::call_fork:
        return make_session(input, [&](gemlet_session** made, gemlet_error* error) {
          return gemlet_session_fork(session(input), made, error);
        });
      case fuzz::call_tokens:
        return session_tokens(input);
      case fuzz::call_prefill:
        return prefill(input);
      case fuzz::call_advance_to:
        return advance_to(input);
      case fuzz::call_logits:
        return logits(input);
      case fuzz::call_rewind:
        return rewind(input);
      case fuzz::call_save:
        return save(input);
      case fuzz::call_restore:
        return make_session(input, [&](gemlet_session** made, gemlet_error* error) {
          const gemlet_engine* from = engine(input);
          const std::string file = path(input);
          return gemlet_session_restore(from, file.c_str(), small_number(input), made, error);
        });
      case fuzz::call_cancel:
        return gemlet_session_cancel(session(input));
      case fuzz::call_sampling_init:
        return sampling_init(input);
      case fuzz::call_encoders_load:
        return media_.load(input, path(input));
      case fuzz::call_encoders_info:
        return media_.info(input);
      case fuzz::call_encode_picture:
        return media_.encode_picture(input);
      case fuzz::call_encode_sound:
        return media_.encode_sound(input);
      case fuzz::call_medium_free:
        return media_.free_medium(input);
      case fuzz::call_sound_new:
        return media_.begin_sound(input);
      case fuzz::call_sound_feed:
        return media_.feed(input);
      case fuzz::call_sound_finish:
        return media_.finish(input);
      case fuzz::call_sound_cancel:
        return media_.cancel(input);
      case fuzz::call_sound_free:
        return media_.free_sound(input);
      case fuzz::call_advance_to_turns:
        return advance_to_turns(input);
      default:
        return generate(input);
    }
  }

  const gguf::TemporaryDirectory& directory_;
  std::string model_;
  gemlet_engine* engine_;
  std::array<gemlet_session*, 4> sessions_{};
  fuzz::Media media_;
  std::size_t loads_ = 0;
};

gemlet_engine* load_engine(const std::string& model) {
  gemlet_engine_options options{};
  options.struct_size = sizeof(options);
  options.threads = 1;
  options.context = 320;  // a picture takes 257
  options.chunk = 8;
  gemlet_engine* engine = nullptr;
  expect(gemlet_engine_load(model.c_str(), &options, &engine, nullptr) == GEMLET_OK, "the tiny model loads");
  return engine;
}

tiny::Shape tiny_shape() {
  tiny::Shape shape = tiny::smallest();
  shape.media = true;
  return shape;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const gguf::TemporaryDirectory directory;
  static const std::string model = directory.write("tiny.gguf", tiny::gemma3n(tiny_shape()).build().bytes).string();
  static gemlet_engine* const engine = load_engine(model);
  static const fuzz::Towers towers = fuzz::load_towers(directory, tiny_shape().hidden);
  Input input(data, size);
  Program(directory, model, engine, towers).run(input);
  return 0;
}
