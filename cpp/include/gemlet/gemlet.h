#ifndef GEMLET_H
#define GEMLET_H

#include <stddef.h>
#include <stdint.h>

/* gemlet's C interface: opaque handles, no exceptions. Every function that can fail returns a gemlet_status and, when
 * it is not GEMLET_OK, writes a zero-terminated message (cut to fit) into `error`, which may be NULL. Strings are
 * UTF-8. An engine may be used from several threads; a session by one at a time. */

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define GEMLET_API __declspec(dllexport)
#else
#define GEMLET_API __attribute__((visibility("default")))
#endif

typedef enum gemlet_status {
  GEMLET_OK = 0,
  GEMLET_IO,
  GEMLET_FORMAT,
  GEMLET_UNSUPPORTED,
  GEMLET_ARGUMENT,
  GEMLET_CONTEXT,
  GEMLET_CANCELLED,
  GEMLET_MEMORY,
  GEMLET_INTERNAL
} gemlet_status;

typedef struct gemlet_engine gemlet_engine;
typedef struct gemlet_session gemlet_session;

typedef struct gemlet_error {
  char message[1024];
} gemlet_error;

typedef struct gemlet_engine_options {
  int32_t threads; /* 0: one for each physical core, within the process's quota */
  int32_t context; /* 0: the smaller of 8192 and what the model was trained for */
  int32_t chunk;   /* 0: 256 */
  /* A part of the model, such as "e2b" or "0.5" (gemlet::Slice::parse in gemlet.hpp); NULL: the whole. */
  const char* slice;
  const char* cache; /* type of the keys and values: "f16", "f32" or "int8"; NULL: "f16" */
} gemlet_engine_options;

typedef struct gemlet_sampling {
  float temperature;        /* 0: greedy */
  int32_t top_k;            /* 0: off */
  float top_p;              /* 1: off */
  float min_p;              /* 0: off */
  float repetition_penalty; /* 1: off */
  float presence_penalty;
  float frequency_penalty;
  uint64_t seed;
} gemlet_sampling;

typedef enum gemlet_finish {
  GEMLET_FINISH_STOP,
  GEMLET_FINISH_LENGTH,
  GEMLET_FINISH_CONTEXT,
  GEMLET_FINISH_CANCELLED
} gemlet_finish;

typedef struct gemlet_stats {
  gemlet_finish finish;
  int32_t prompt_tokens;
  int32_t reused_tokens;
  int32_t generated_tokens;
  double prefill_seconds;
  double decode_seconds;
  double first_token_seconds;
} gemlet_stats;

GEMLET_API const char* gemlet_version(void);
GEMLET_API gemlet_engine_options gemlet_default_engine_options(void);
GEMLET_API gemlet_sampling gemlet_default_sampling(void);

GEMLET_API gemlet_status gemlet_engine_load(const char* path, const gemlet_engine_options* options,
                                            gemlet_engine** engine, gemlet_error* error);
GEMLET_API void gemlet_engine_free(gemlet_engine* engine); /* sessions keep what they need */
GEMLET_API int32_t gemlet_engine_vocabulary(const gemlet_engine* engine);
GEMLET_API int32_t gemlet_engine_context(const gemlet_engine* engine);
GEMLET_API const char* gemlet_engine_chat_template(const gemlet_engine* engine); /* "" if the file has none */

/* Writes at most `capacity` tokens; `*count` is the number there are, so that a call with capacity 0 asks for it. */
GEMLET_API gemlet_status gemlet_tokenize(const gemlet_engine* engine, const char* text, size_t length, int bos,
                                         int special, int32_t* tokens, size_t capacity, size_t* count,
                                         gemlet_error* error);
/* Likewise in bytes; a zero byte follows the text where there is room, not counted. */
GEMLET_API gemlet_status gemlet_detokenize(const gemlet_engine* engine, const int32_t* tokens, size_t count,
                                           int special, char* text, size_t capacity, size_t* length,
                                           gemlet_error* error);

GEMLET_API gemlet_status gemlet_session_new(const gemlet_engine* engine, int32_t context, gemlet_session** session,
                                            gemlet_error* error);
GEMLET_API void gemlet_session_free(gemlet_session* session);
GEMLET_API gemlet_status gemlet_session_fork(const gemlet_session* session, gemlet_session** fork, gemlet_error* error);
GEMLET_API int32_t gemlet_session_position(const gemlet_session* session);
/* logits: float[vocabulary] of the last token, or NULL. */
GEMLET_API gemlet_status gemlet_session_prefill(gemlet_session* session, const int32_t* tokens, size_t count,
                                                float* logits, gemlet_error* error);
GEMLET_API gemlet_status gemlet_session_rewind(gemlet_session* session, int32_t position, gemlet_error* error);
GEMLET_API gemlet_status gemlet_session_save(const gemlet_session* session, const char* path, gemlet_error* error);
GEMLET_API gemlet_status gemlet_session_restore(const gemlet_engine* engine, const char* path, int32_t context,
                                                gemlet_session** session, gemlet_error* error);
/* Makes a running call on this session return GEMLET_CANCELLED; may be called from any thread. */
GEMLET_API void gemlet_session_cancel(gemlet_session* session);

/* Called with whole UTF-8 characters (not zero-terminated); return 0 to go on, anything else to stop. */
typedef int (*gemlet_on_text)(void* user, const char* text, size_t length);

/* Answers a prompt of tokens; what the session already holds of it is not computed again. `stop` holds `stop_count`
 * zero-terminated strings. `stats` and `on_text` may be NULL. */
GEMLET_API gemlet_status gemlet_generate(gemlet_session* session, const int32_t* prompt, size_t prompt_count,
                                         const gemlet_sampling* sampling, int32_t max_tokens, const char* const* stop,
                                         size_t stop_count, gemlet_on_text on_text, void* user, gemlet_stats* stats,
                                         gemlet_error* error);

#ifdef __cplusplus
}
#endif
#endif
