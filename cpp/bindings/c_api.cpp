#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/c_api_call.hpp"
#include "bindings/c_api_handles.hpp"
#include "bindings/c_api_struct.hpp"
#include "bindings/c_api_values.hpp"
#include "bindings/hyperparameter_text.hpp"
#include "gemlet/gemlet.h"
#include "gemlet/gemlet.hpp"

namespace {

using gemlet::array;
using gemlet::checked;
using gemlet::copy_out;
using gemlet::Error;
using gemlet::guarded;
using gemlet::require;

using Use = gemlet::Use<gemlet_session>;

const gemlet::Engine& engine_of(const gemlet_engine* engine) { return *checked(engine, "engine").engine; }

/// For a call that only reads the timeline, but not while another changes it.
Use use_of(const gemlet_session* session) { return Use(const_cast<gemlet_session*>(session), "session"); }

gemlet::Prompt prompt_of(const gemlet_session* session, const gemlet_request& request) {
  const bool has_turns = request.turns != nullptr || request.turn_count > 0;
  if (!has_turns) return array(request.prompt, request.prompt_count, "prompt");
  if (request.prompt != nullptr || request.prompt_count > 0) {
    throw Error(Error::Kind::argument, "the request has turns and a prompt, expected one of them");
  }
  return session->session.engine().prompt(gemlet::turns_of(request.turns, request.turn_count));
}

}  // namespace

const char* gemlet_version(void) { return GEMLET_VERSION; }

int32_t gemlet_abi_version(void) { return GEMLET_ABI_VERSION; }

const char* gemlet_status_name(int32_t status) {
  switch (status) {
    case GEMLET_OK:
      return "ok";
    case GEMLET_IO:
      return "io";
    case GEMLET_FORMAT:
      return "format";
    case GEMLET_UNSUPPORTED:
      return "unsupported";
    case GEMLET_ARGUMENT:
      return "argument";
    case GEMLET_CONTEXT:
      return "context";
    case GEMLET_CANCELLED:
      return "cancelled";
    case GEMLET_MEMORY:
      return "memory";
    case GEMLET_INTERNAL:
      return "internal";
    default:
      return "unknown";
  }
}

gemlet_status gemlet_engine_load(const char* path, const gemlet_engine_options* options, gemlet_engine** engine,
                                 gemlet_error* error) {
  return guarded(error, [&] {
    require(engine, "engine");
    *engine = nullptr;
    require(path, "path");
    *engine = new gemlet_engine{gemlet::Engine::load(path, gemlet::engine_options_of(options))};
  });
}

void gemlet_engine_free(gemlet_engine* engine) { delete engine; }

gemlet_status gemlet_engine_info(const gemlet_engine* engine, gemlet_model_info* info, gemlet_error* error) {
  return guarded(error, [&] {
    const gemlet::ModelInfo& from = engine_of(engine).info();
    require(info, "info");
    const std::size_t size = gemlet::checked_struct_size(info, gemlet::model_info_kind);
    gemlet_model_info out{};
    out.architecture = from.architecture.c_str();
    out.name = from.name.c_str();
    out.chat_template = from.chat_template.c_str();
    out.kernels = from.kernels.c_str();
    out.vocabulary = from.vocabulary;
    out.hidden_size = from.hidden_size;
    out.layers = from.layers;
    out.file_layers = from.file_layers;
    out.trained_context = from.trained_context;
    out.context = from.context;
    out.threads = from.threads;
    out.bos = engine->engine->bos();
    out.file_bytes = from.file_bytes;
    out.fingerprint = from.fingerprint;
    gemlet::write_struct(info, size, out);
  });
}

gemlet_status gemlet_engine_hyperparameter(const gemlet_engine* engine, const char* name, char* text, size_t capacity,
                                           size_t* length, gemlet_error* error) {
  return guarded(error, [&] {
    const gemlet::Hyperparameters& all = engine_of(engine).info().hyperparameters;
    require(name, "name");
    require(length, "length");
    const std::span<char> output = array(text, capacity, "text");
    const auto found = all.find(name);
    if (found == all.end()) {
      throw Error(Error::Kind::argument, "the model has no hyperparameter \"" + std::string(name) + "\"");
    }
    copy_out(gemlet::hyperparameter_text(found->second), output, length);
  });
}

const char* gemlet_engine_hyperparameter_name(const gemlet_engine* engine, size_t index) {
  if (engine == nullptr) return nullptr;
  const gemlet::Hyperparameters& all = engine->engine->info().hyperparameters;
  return index < all.size() ? std::next(all.begin(), static_cast<std::ptrdiff_t>(index))->first.c_str() : nullptr;
}

gemlet_status gemlet_tokenize(const gemlet_engine* engine, const char* text, size_t length, int bos, int special,
                              int32_t* tokens, size_t capacity, size_t* count, gemlet_error* error) {
  return guarded(error, [&] {
    const gemlet::Engine& from = engine_of(engine);
    require(count, "count");
    const std::span<const char> input = array(text, length, "text");
    const std::span<int32_t> output = array(tokens, capacity, "tokens");
    const std::vector<gemlet::Token> found = from.tokenize({input.data(), input.size()}, bos != 0, special != 0);
    copy_out<int32_t>(found, output, count);
  });
}

gemlet_status gemlet_detokenize(const gemlet_engine* engine, const int32_t* tokens, size_t count, int special,
                                char* text, size_t capacity, size_t* length, gemlet_error* error) {
  return guarded(error, [&] {
    const gemlet::Engine& from = engine_of(engine);
    require(length, "length");
    const std::span<char> output = array(text, capacity, "text");
    copy_out(from.detokenize(array(tokens, count, "tokens"), special != 0), output, length);
  });
}

gemlet_status gemlet_find_token(const gemlet_engine* engine, const char* piece, size_t length, int32_t* token,
                                gemlet_error* error) {
  return guarded(error, [&] {
    const gemlet::Engine& from = engine_of(engine);
    require(token, "token");
    const std::span<const char> bytes = array(piece, length, "piece");
    const std::string_view wanted(bytes.data(), bytes.size());
    const std::optional<gemlet::Token> found = from.find_token(wanted);
    if (!found) {
      throw Error(Error::Kind::argument, "the vocabulary has no piece \"" + std::string(wanted) + "\"");
    }
    *token = *found;
  });
}

gemlet_status gemlet_is_end(const gemlet_engine* engine, int32_t token, int* is_end, gemlet_error* error) {
  return guarded(error, [&] {
    const gemlet::Engine& from = engine_of(engine);
    require(is_end, "is_end");
    if (token < 0 || token >= from.info().vocabulary) {
      throw Error(Error::Kind::argument, "token is " + std::to_string(token) + ", expected 0 to " +
                                             std::to_string(from.info().vocabulary - 1));
    }
    *is_end = from.is_end(token) ? 1 : 0;
  });
}

gemlet_status gemlet_prompt(const gemlet_engine* engine, const gemlet_turn* turns, size_t turn_count, int32_t end,
                            int32_t* tokens, size_t capacity, size_t* count, gemlet_error* error) {
  return guarded(error, [&] {
    const gemlet::Engine& from = engine_of(engine);
    require(count, "count");
    const std::span<int32_t> output = array(tokens, capacity, "tokens");
    const gemlet::Prompt prompt = from.prompt(gemlet::turns_of(turns, turn_count), {gemlet::prompt_end_of(end)});
    if (!prompt.media.empty() && capacity > 0) {
      throw Error(
          Error::Kind::argument,
          "the conversation has a picture or a sound, which token ids cannot hold: expected capacity 0, found " +
              std::to_string(capacity));
    }
    copy_out<int32_t>(prompt.tokens, output, count);
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

void gemlet_session_free(gemlet_session* session) { gemlet::free_unless_lost(session); }

gemlet_status gemlet_session_fork(const gemlet_session* session, gemlet_session** fork, gemlet_error* error) {
  return guarded(error, [&] {
    require(fork, "fork");
    *fork = nullptr;
    const Use use = use_of(session);
    *fork = new gemlet_session{use->session.fork()};
  });
}

gemlet_status gemlet_session_tokens(const gemlet_session* session, int32_t* tokens, size_t capacity, size_t* count,
                                    gemlet_error* error) {
  return guarded(error, [&] {
    const Use use = use_of(session);
    require(count, "count");
    copy_out<int32_t>(use->session.tokens(), array(tokens, capacity, "tokens"), count);
  });
}

gemlet_status gemlet_session_prefill(gemlet_session* session, const int32_t* tokens, size_t count,
                                     gemlet_error* error) {
  return guarded(error, [&] {
    const Use use = use_of(session);
    const std::span<const int32_t> input = array(tokens, count, "tokens");
    use->session.prefill(input, gemlet::Logits::last, use.cancel());
  });
}

gemlet_status gemlet_session_advance_to(gemlet_session* session, const int32_t* tokens, size_t count, size_t* reused,
                                        gemlet_error* error) {
  return guarded(error, [&] {
    const Use use = use_of(session);
    const std::span<const int32_t> input = array(tokens, count, "tokens");
    const int kept = use->session.advance_to(input, use.cancel());
    if (reused != nullptr) *reused = static_cast<size_t>(kept);
  });
}

gemlet_status gemlet_session_advance_to_turns(gemlet_session* session, const gemlet_turn* turns, size_t turn_count,
                                              int32_t end, size_t* reused, gemlet_error* error) {
  return guarded(error, [&] {
    const Use use = use_of(session);
    const gemlet::Engine& engine = use->session.engine();
    const gemlet::Prompt prompt = engine.prompt(gemlet::turns_of(turns, turn_count), {gemlet::prompt_end_of(end)});
    const int kept = use->session.advance_to(prompt, use.cancel());
    if (reused != nullptr) *reused = static_cast<size_t>(kept);
  });
}

gemlet_status gemlet_session_logits(const gemlet_session* session, float* logits, size_t capacity, size_t* count,
                                    gemlet_error* error) {
  return guarded(error, [&] {
    const Use use = use_of(session);
    require(count, "count");
    copy_out<float>(use->session.logits(), array(logits, capacity, "logits"), count);
  });
}

gemlet_status gemlet_session_rewind(gemlet_session* session, int32_t position, gemlet_error* error) {
  return guarded(error, [&] { use_of(session)->session.rewind(position); });
}

gemlet_status gemlet_session_save(const gemlet_session* session, const char* path, gemlet_error* error) {
  return guarded(error, [&] {
    const Use use = use_of(session);
    require(path, "path");
    use->session.save(path);
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

void gemlet_sampling_init(gemlet_sampling* sampling, size_t struct_size) {
  if (sampling == nullptr || !gemlet::is_struct_size(struct_size, gemlet::sampling_kind)) return;
  gemlet::write_struct(sampling, struct_size, gemlet::default_sampling());
}

gemlet_status gemlet_generate(gemlet_session* session, const gemlet_request* request, gemlet_stats* stats,
                              gemlet_error* error) {
  return guarded(error, [&] {
    const Use use = use_of(session);
    require(request, "request");
    const auto wanted = gemlet::read_struct<gemlet_request>(request, gemlet::request_kind);
    const std::size_t stats_size = stats == nullptr ? 0 : gemlet::checked_struct_size(stats, gemlet::stats_kind);
    const std::span<int32_t> completion = array(wanted.completion, wanted.completion_capacity, "completion");
    const gemlet::GenerateResult result =
        gemlet::generate(use->session, prompt_of(session, wanted), gemlet::generate_options_of(wanted),
                         gemlet::on_text_of(wanted), use.cancel());
    std::copy_n(result.tokens.begin(), std::min(result.tokens.size(), completion.size()), completion.begin());
    if (stats != nullptr) gemlet::write_struct(stats, stats_size, gemlet::stats_of(result));
    // A callback that stops the completion got what it asked for; a call that another thread cancelled did not.
    if (result.finish_reason == gemlet::FinishReason::cancelled && use.cancelled()) {
      throw Error(Error::Kind::cancelled, "generation was cancelled");
    }
  });
}
