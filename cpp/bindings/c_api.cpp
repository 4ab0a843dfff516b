#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/busy.hpp"
#include "gemlet/gemlet.h"
#include "gemlet/gemlet.hpp"

struct gemlet_engine {
  std::shared_ptr<const gemlet::Engine> engine;
};

struct gemlet_session {
  gemlet::Session session;
  gemlet::Cancel cancel{false};
  gemlet::Busy busy{};
};

namespace {

using gemlet::Error;

gemlet_status status_of(Error::Kind kind) {
  switch (kind) {
    case Error::Kind::io:
      return GEMLET_IO;
    case Error::Kind::format:
      return GEMLET_FORMAT;
    case Error::Kind::unsupported:
      return GEMLET_UNSUPPORTED;
    case Error::Kind::argument:
      return GEMLET_ARGUMENT;
    case Error::Kind::context:
      return GEMLET_CONTEXT;
    case Error::Kind::cancelled:
      return GEMLET_CANCELLED;
    case Error::Kind::memory:
      return GEMLET_MEMORY;
    case Error::Kind::overload:  // of schedulers, which the C interface does not have
      break;
  }
  return GEMLET_INTERNAL;
}

gemlet_finish finish_of(gemlet::FinishReason reason) {
  switch (reason) {
    case gemlet::FinishReason::stop:
      return GEMLET_FINISH_STOP;
    case gemlet::FinishReason::length:
      return GEMLET_FINISH_LENGTH;
    case gemlet::FinishReason::context:
      return GEMLET_FINISH_CONTEXT;
    case gemlet::FinishReason::cancelled:
      break;
  }
  return GEMLET_FINISH_CANCELLED;
}

gemlet_status report(gemlet_error* error, gemlet_status status, std::string_view message) noexcept {
  if (error != nullptr) {
    std::size_t length = std::min(message.size(), sizeof(error->message) - 1);
    if (length < message.size()) {  // cut before a UTF-8 character, not inside one
      while (length > 0 && (static_cast<unsigned char>(message[length]) & 0xc0) == 0x80) --length;
    }
    std::memcpy(error->message, message.data(), length);
    error->message[length] = '\0';
  }
  return status;
}

/// Runs `body`; no exception gets past it.
template <typename Body>
gemlet_status guarded(gemlet_error* error, const Body& body) noexcept {
  try {
    body();
    return GEMLET_OK;
  } catch (const Error& caught) {
    return report(error, status_of(caught.kind()), caught.what());
  } catch (const std::bad_alloc&) {
    return report(error, GEMLET_MEMORY, "out of memory");
  } catch (const std::exception& caught) {
    return report(error, GEMLET_INTERNAL, caught.what());
  } catch (...) {
    return report(error, GEMLET_INTERNAL, "unknown exception");
  }
}

void require(const void* argument, const char* name) {
  if (argument == nullptr) throw Error(Error::Kind::argument, std::string(name) + " is NULL");
}

/// An array argument, which may be NULL when it is empty.
template <typename T>
std::span<T> array(T* data, std::size_t count, const char* name) {
  if (count > 0) require(data, name);
  return {data, count};
}

gemlet_session& checked(gemlet_session* session) {
  require(session, "session");
  return *session;
}

/// A call on a session: refuses one from another thread, or from inside a callback, while it lasts.
class Use {
 public:
  explicit Use(gemlet_session* session) : session_(checked(session)), use_(session_.busy) {}

  gemlet::Session& session() const { return session_.session; }
  /// Forgets what was cancelled before, for a call that can be cancelled.
  const gemlet::Cancel* cancel() const {
    session_.cancel.store(false);
    return &session_.cancel;
  }
  bool cancelled() const { return session_.cancel.load(); }

 private:
  gemlet_session& session_;
  gemlet::Busy::Use use_;
};

gemlet::Sampling sampling_of(const gemlet_sampling& from) {
  gemlet::Sampling sampling;
  sampling.temperature = from.temperature;
  sampling.top_k = from.top_k;
  sampling.top_p = from.top_p;
  sampling.min_p = from.min_p;
  sampling.repetition_penalty = from.repetition_penalty;
  sampling.presence_penalty = from.presence_penalty;
  sampling.frequency_penalty = from.frequency_penalty;
  sampling.seed = from.seed;
  return sampling;
}

}  // namespace

const char* gemlet_version(void) { return GEMLET_VERSION; }

gemlet_engine_options gemlet_default_engine_options(void) {
  const gemlet::EngineOptions defaults;
  return {defaults.threads, defaults.context, defaults.chunk, nullptr, nullptr};
}

gemlet_sampling gemlet_default_sampling(void) {
  const gemlet::Sampling defaults;
  return {defaults.temperature,
          defaults.top_k,
          defaults.top_p,
          defaults.min_p,
          defaults.repetition_penalty,
          defaults.presence_penalty,
          defaults.frequency_penalty,
          defaults.seed};
}

gemlet_status gemlet_engine_load(const char* path, const gemlet_engine_options* options, gemlet_engine** engine,
                                 gemlet_error* error) {
  return guarded(error, [&] {
    require(engine, "engine");
    *engine = nullptr;
    require(path, "path");
    require(options, "options");
    gemlet::EngineOptions wanted;
    wanted.threads = options->threads;
    wanted.context = options->context;
    if (options->chunk != 0) wanted.chunk = options->chunk;
    if (options->cache != nullptr) wanted.cache = gemlet::parse_cache_type(options->cache);
    if (options->slice != nullptr) wanted.slice = gemlet::Slice::parse(options->slice);
    *engine = new gemlet_engine{gemlet::Engine::load(path, wanted)};
  });
}

void gemlet_engine_free(gemlet_engine* engine) { delete engine; }

int32_t gemlet_engine_vocabulary(const gemlet_engine* engine) {
  return engine == nullptr ? 0 : engine->engine->info().vocabulary;
}

int32_t gemlet_engine_context(const gemlet_engine* engine) {
  return engine == nullptr ? 0 : engine->engine->info().context;
}

const char* gemlet_engine_chat_template(const gemlet_engine* engine) {
  return engine == nullptr ? "" : engine->engine->info().chat_template.c_str();
}

gemlet_status gemlet_tokenize(const gemlet_engine* engine, const char* text, size_t length, int bos, int special,
                              int32_t* tokens, size_t capacity, size_t* count, gemlet_error* error) {
  return guarded(error, [&] {
    require(engine, "engine");
    require(count, "count");
    const std::span<const char> input = array(text, length, "text");
    const std::span<int32_t> output = array(tokens, capacity, "tokens");
    const std::vector<gemlet::Token> found =
        engine->engine->tokenize({input.data(), input.size()}, bos != 0, special != 0);
    std::copy_n(found.begin(), std::min(found.size(), output.size()), output.begin());
    *count = found.size();
  });
}

gemlet_status gemlet_detokenize(const gemlet_engine* engine, const int32_t* tokens, size_t count, int special,
                                char* text, size_t capacity, size_t* length, gemlet_error* error) {
  return guarded(error, [&] {
    require(engine, "engine");
    require(length, "length");
    const std::span<char> output = array(text, capacity, "text");
    const std::string found = engine->engine->detokenize(array(tokens, count, "tokens"), special != 0);
    // c_str() ends with the zero byte that follows the text where there is room.
    std::copy_n(found.c_str(), std::min(found.size() + 1, output.size()), output.begin());
    *length = found.size();
  });
}

gemlet_status gemlet_session_new(const gemlet_engine* engine, int32_t context, gemlet_session** session,
                                 gemlet_error* error) {
  return guarded(error, [&] {
    require(session, "session");
    *session = nullptr;
    require(engine, "engine");
    *session = new gemlet_session{gemlet::Session(engine->engine, context)};
  });
}

void gemlet_session_free(gemlet_session* session) { delete session; }

gemlet_status gemlet_session_fork(const gemlet_session* session, gemlet_session** fork, gemlet_error* error) {
  return guarded(error, [&] {
    require(fork, "fork");
    *fork = nullptr;
    const Use use(const_cast<gemlet_session*>(session));  // marks it busy; the timeline is only read
    *fork = new gemlet_session{use.session().fork()};
  });
}

int32_t gemlet_session_position(const gemlet_session* session) {
  return session == nullptr ? 0 : session->session.position();
}

gemlet_status gemlet_session_prefill(gemlet_session* session, const int32_t* tokens, size_t count, float* logits,
                                     gemlet_error* error) {
  return guarded(error, [&] {
    const Use use(session);
    const std::span<const int32_t> input = array(tokens, count, "tokens");
    const std::span<const float> computed = use.session().prefill(input, gemlet::Logits::last, use.cancel());
    if (logits != nullptr) std::copy(computed.begin(), computed.end(), logits);
  });
}

gemlet_status gemlet_session_rewind(gemlet_session* session, int32_t position, gemlet_error* error) {
  return guarded(error, [&] { Use(session).session().rewind(position); });
}

gemlet_status gemlet_session_save(const gemlet_session* session, const char* path, gemlet_error* error) {
  return guarded(error, [&] {
    const Use use(const_cast<gemlet_session*>(session));
    require(path, "path");
    use.session().save(path);
  });
}

gemlet_status gemlet_session_restore(const gemlet_engine* engine, const char* path, int32_t context,
                                     gemlet_session** session, gemlet_error* error) {
  return guarded(error, [&] {
    require(session, "session");
    *session = nullptr;
    require(engine, "engine");
    require(path, "path");
    *session = new gemlet_session{gemlet::Session::restore(engine->engine, path, context)};
  });
}

void gemlet_session_cancel(gemlet_session* session) {
  if (session != nullptr) session->cancel.store(true);
}

gemlet_status gemlet_generate(gemlet_session* session, const int32_t* prompt, size_t prompt_count,
                              const gemlet_sampling* sampling, int32_t max_tokens, const char* const* stop,
                              size_t stop_count, gemlet_on_text on_text, void* user, gemlet_stats* stats,
                              gemlet_error* error) {
  return guarded(error, [&] {
    const Use use(session);
    require(sampling, "sampling");
    gemlet::GenerateOptions options;
    options.max_tokens = max_tokens;
    options.sampling = sampling_of(*sampling);
    for (const char* text : array(stop, stop_count, "stop")) {
      require(text, "a stop string");
      options.stop.emplace_back(text);
    }
    gemlet::OnText on_piece;
    if (on_text != nullptr) {
      on_piece = [on_text, user](std::string_view text) { return on_text(user, text.data(), text.size()) == 0; };
    }
    const gemlet::GenerateResult result =
        gemlet::generate(use.session(), array(prompt, prompt_count, "prompt"), options, on_piece, use.cancel());
    if (stats != nullptr) {
      *stats = {finish_of(result.finish_reason), result.stats.prompt_tokens,   result.stats.reused_tokens,
                result.stats.generated_tokens,   result.stats.prefill_seconds, result.stats.decode_seconds,
                result.stats.first_token_seconds};
    }
    // A callback that stops the answer got what it asked for; a call that another thread cancelled did not.
    if (result.finish_reason == gemlet::FinishReason::cancelled && use.cancelled()) {
      throw Error(Error::Kind::cancelled, "generation was cancelled");
    }
  });
}
