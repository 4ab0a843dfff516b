/* What the tests of the C API share. */
#ifndef TEST_CAPI_H
#define TEST_CAPI_H

#include <gemlet/gemlet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks = 0;
static int failures = 0;

#define CHECK(condition)                                                               \
  do {                                                                                 \
    ++checks;                                                                          \
    if (!(condition)) {                                                                \
      ++failures;                                                                      \
      printf("FAIL  %s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, error.message); \
    }                                                                                  \
  } while (0)

enum { max_tokens = 64, max_vocabulary = 4096 };

static gemlet_error error = {.struct_size = sizeof(error)};

/* The call fails with this kind of error, and its message holds `part`. */
#define CHECK_REFUSED(call, kind, part)           \
  do {                                            \
    error.message[0] = '\0';                      \
    error.status = GEMLET_OK;                     \
    CHECK((call) == (kind));                      \
    CHECK(error.status == (kind));                \
    CHECK(strstr(error.message, (part)) != NULL); \
  } while (0)

static inline gemlet_engine* load(const char* path) {
  gemlet_engine_options options = {.struct_size = sizeof(options)};
  gemlet_engine* engine = NULL;
  options.threads = 2;
  options.context = 64;
  CHECK(gemlet_engine_load(path, &options, &engine, &error) == GEMLET_OK);
  if (engine == NULL) {
    printf("cannot go on: %s\n", error.message);
    exit(1);
  }
  return engine;
}

static inline gemlet_session* new_session(const gemlet_engine* engine) {
  gemlet_session* session = NULL;
  CHECK(gemlet_session_new(engine, 0, &session, &error) == GEMLET_OK);
  return session;
}

static inline size_t tokenize(const gemlet_engine* engine, const char* text, int32_t* tokens) {
  size_t count = 0;
  CHECK(gemlet_tokenize(engine, text, strlen(text), 1, 1, tokens, max_tokens, &count, &error) == GEMLET_OK);
  CHECK(count > 0 && count <= max_tokens);
  return count;
}

static inline gemlet_sampling greedy(void) {
  gemlet_sampling sampling;
  gemlet_sampling_init(&sampling, sizeof(sampling));
  sampling.temperature = 0;
  return sampling;
}

static inline gemlet_request request_of(const int32_t* tokens, size_t count, const gemlet_sampling* sampling,
                                        int32_t max_tokens_of_answer) {
  gemlet_request request = {.struct_size = sizeof(request)};
  request.prompt = tokens;
  request.prompt_count = count;
  request.sampling = sampling;
  request.max_tokens = max_tokens_of_answer;
  return request;
}

static inline size_t vocabulary_of(const gemlet_engine* engine) {
  gemlet_model_info info = {.struct_size = sizeof(info)};
  CHECK(gemlet_engine_info(engine, &info, &error) == GEMLET_OK);
  CHECK(info.vocabulary > 0 && info.vocabulary <= max_vocabulary);
  return (size_t)info.vocabulary;
}

static inline size_t position_of(const gemlet_session* session) {
  size_t count = 0;
  CHECK(gemlet_session_tokens(session, NULL, 0, &count, &error) == GEMLET_OK);
  return count;
}

static inline void prefill(gemlet_session* session, const int32_t* tokens, size_t count, float* logits) {
  CHECK(gemlet_session_prefill(session, tokens, count, &error) == GEMLET_OK);
  if (logits != NULL) {
    size_t written = 0;
    CHECK(gemlet_session_logits(session, logits, max_vocabulary, &written, &error) == GEMLET_OK);
    CHECK(written > 0);
  }
}

/* Prints the counts; the exit code of a test program. */
static inline int finish(void) {
  printf("%d passed, %d failed\n", checks - failures, failures);
  return failures == 0 ? 0 : 1;
}

#endif
