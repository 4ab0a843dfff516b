/* The C API from C: test_capi MODEL, where MODEL is a small GGUF. */
#include <gemlet/gemlet.h>
#include <math.h>
#include <pthread.h>
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

static gemlet_error error;

/* The call fails with this status, and its message holds `part`. */
#define CHECK_REFUSED(call, status, part)         \
  do {                                            \
    error.message[0] = '\0';                      \
    CHECK((call) == (status));                    \
    CHECK(strstr(error.message, (part)) != NULL); \
  } while (0)

static gemlet_engine* load(const char* path) {
  gemlet_engine_options options = gemlet_default_engine_options();
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

static gemlet_session* new_session(const gemlet_engine* engine) {
  gemlet_session* session = NULL;
  CHECK(gemlet_session_new(engine, 0, &session, &error) == GEMLET_OK);
  return session;
}

static size_t tokenize(const gemlet_engine* engine, const char* text, int32_t* tokens) {
  size_t count = 0;
  CHECK(gemlet_tokenize(engine, text, strlen(text), 1, 1, tokens, max_tokens, &count, &error) == GEMLET_OK);
  CHECK(count > 0 && count <= max_tokens);
  return count;
}

static gemlet_sampling greedy(void) {
  gemlet_sampling sampling = gemlet_default_sampling();
  sampling.temperature = 0;
  return sampling;
}

static void test_defaults(void) {
  const gemlet_engine_options options = gemlet_default_engine_options();
  const gemlet_sampling sampling = gemlet_default_sampling();
  CHECK(strchr(gemlet_version(), '.') != NULL);
  CHECK(options.threads == 0 && options.context == 0 && options.chunk == 256 && options.slice == NULL);
  CHECK(options.cache == NULL);
  CHECK(sampling.temperature == 1.0F && sampling.top_k == 64 && sampling.top_p == 0.95F);
}

static void test_load_errors(const char* path) {
  gemlet_engine_options options = gemlet_default_engine_options();
  gemlet_engine* engine = (gemlet_engine*)&options;
  CHECK_REFUSED(gemlet_engine_load("/no/such/file", &options, &engine, &error), GEMLET_IO, "/no/such/file");
  CHECK(engine == NULL);
  CHECK_REFUSED(gemlet_engine_load("/", &options, &engine, &error), GEMLET_IO, "directory");
  CHECK_REFUSED(gemlet_engine_load(NULL, &options, &engine, &error), GEMLET_ARGUMENT, "path is NULL");
  CHECK_REFUSED(gemlet_engine_load(path, NULL, &engine, &error), GEMLET_ARGUMENT, "options is NULL");
  CHECK_REFUSED(gemlet_engine_load(path, &options, NULL, &error), GEMLET_ARGUMENT, "engine is NULL");
  CHECK(gemlet_engine_load("/no/such/file", &options, &engine, NULL) == GEMLET_IO);
  options.threads = -1;
  CHECK_REFUSED(gemlet_engine_load(path, &options, &engine, &error), GEMLET_ARGUMENT, "threads");
  CHECK(engine == NULL);
  options.threads = 1;
  options.cache = "int7";
  CHECK_REFUSED(gemlet_engine_load(path, &options, &engine, &error), GEMLET_ARGUMENT, "int7");
  options.cache = "int8";
  CHECK(gemlet_engine_load(path, &options, &engine, &error) == GEMLET_OK);
  gemlet_engine_free(engine);
}

/* A message longer than the buffer is cut, and ends before a UTF-8 character rather than inside it. */
static void test_long_message(void) {
  gemlet_engine_options options = gemlet_default_engine_options();
  gemlet_engine* engine = NULL;
  char path[3002];
  size_t length;
  size_t i;
  for (i = 0; i + 1 < sizeof path; i += 2) memcpy(path + i, "\xc3\xa9", 2);
  path[sizeof path - 2] = '\0';
  CHECK(gemlet_engine_load(path, &options, &engine, &error) == GEMLET_IO);
  length = strlen(error.message);
  CHECK(length >= sizeof error.message - 2 && length < sizeof error.message);
  CHECK(length % 2 == 0);
}

static void test_text(const gemlet_engine* engine) {
  const char* text = "hello world";
  int32_t tokens[max_tokens];
  int32_t guarded[2] = {-7, -7};
  char output[32];
  size_t count = 0;
  size_t asked = 0;
  size_t length = 0;
  int32_t outside = 1 << 30;

  CHECK(gemlet_tokenize(engine, text, strlen(text), 0, 1, NULL, 0, &asked, &error) == GEMLET_OK);
  CHECK(gemlet_tokenize(engine, text, strlen(text), 0, 1, tokens, max_tokens, &count, &error) == GEMLET_OK);
  CHECK(asked == count && count > 1);
  CHECK(gemlet_tokenize(engine, text, strlen(text), 0, 1, guarded, 1, &asked, &error) == GEMLET_OK);
  CHECK(asked == count && guarded[0] == tokens[0] && guarded[1] == -7);
  CHECK(gemlet_tokenize(engine, NULL, 0, 0, 1, NULL, 0, &asked, &error) == GEMLET_OK && asked == 0);

  CHECK(gemlet_detokenize(engine, tokens, count, 0, NULL, 0, &length, &error) == GEMLET_OK);
  CHECK(length == strlen(text));
  memset(output, '#', sizeof output);
  CHECK(gemlet_detokenize(engine, tokens, count, 0, output, sizeof output, &length, &error) == GEMLET_OK);
  CHECK(strcmp(output, text) == 0);
  memset(output, '#', sizeof output);
  CHECK(gemlet_detokenize(engine, tokens, count, 0, output, 5, &length, &error) == GEMLET_OK);
  CHECK(length == strlen(text) && memcmp(output, "hello#", 6) == 0);

  CHECK_REFUSED(gemlet_detokenize(engine, &outside, 1, 0, output, 5, &length, &error), GEMLET_ARGUMENT, "1073741824");
  CHECK_REFUSED(gemlet_tokenize(NULL, text, 1, 0, 1, NULL, 0, &asked, &error), GEMLET_ARGUMENT, "engine is NULL");
  CHECK_REFUSED(gemlet_tokenize(engine, NULL, 1, 0, 1, NULL, 0, &asked, &error), GEMLET_ARGUMENT, "text is NULL");
  CHECK_REFUSED(gemlet_tokenize(engine, text, 1, 0, 1, NULL, 1, &asked, &error), GEMLET_ARGUMENT, "tokens is NULL");
  CHECK_REFUSED(gemlet_tokenize(engine, text, 1, 0, 1, NULL, 0, NULL, &error), GEMLET_ARGUMENT, "count is NULL");
  CHECK_REFUSED(gemlet_detokenize(engine, NULL, 1, 0, NULL, 0, &length, &error), GEMLET_ARGUMENT, "tokens is NULL");
  CHECK_REFUSED(gemlet_detokenize(engine, tokens, 1, 0, NULL, 1, &length, &error), GEMLET_ARGUMENT, "text is NULL");
  CHECK_REFUSED(gemlet_detokenize(engine, tokens, 1, 0, NULL, 0, NULL, &error), GEMLET_ARGUMENT, "length is NULL");
}

static void test_session(const gemlet_engine* engine) {
  static float whole[max_vocabulary];
  static float stepped[max_vocabulary];
  static float forked[max_vocabulary];
  const size_t logit_bytes = sizeof(float) * (size_t)gemlet_engine_vocabulary(engine);
  int32_t tokens[max_tokens];
  const size_t count = tokenize(engine, "hello world", tokens);
  gemlet_session* session = new_session(engine);
  gemlet_session* fork = NULL;
  size_t i;

  CHECK(gemlet_engine_vocabulary(engine) > 0 && gemlet_engine_vocabulary(engine) <= max_vocabulary);
  CHECK(gemlet_engine_context(engine) == 64);
  CHECK(strstr(gemlet_engine_chat_template(engine), "bos_token") != NULL);

  CHECK(gemlet_session_prefill(session, tokens, count, whole, &error) == GEMLET_OK);
  CHECK(gemlet_session_position(session) == (int32_t)count);
  CHECK(isfinite(whole[0]));
  CHECK(gemlet_session_fork(session, &fork, &error) == GEMLET_OK);
  CHECK(gemlet_session_rewind(session, 0, &error) == GEMLET_OK);
  CHECK(gemlet_session_position(session) == 0 && gemlet_session_position(fork) == (int32_t)count);
  for (i = 0; i < count; ++i) CHECK(gemlet_session_prefill(session, tokens + i, 1, stepped, &error) == GEMLET_OK);
  CHECK(memcmp(whole, stepped, logit_bytes) == 0);

  CHECK(gemlet_session_prefill(session, tokens, 1, stepped, &error) == GEMLET_OK);
  CHECK(gemlet_session_prefill(fork, tokens, 1, forked, &error) == GEMLET_OK);
  CHECK(memcmp(stepped, forked, logit_bytes) == 0);
  CHECK(memcmp(stepped, whole, logit_bytes) != 0);
  CHECK(gemlet_session_prefill(fork, tokens, 1, NULL, &error) == GEMLET_OK);

  CHECK_REFUSED(gemlet_session_prefill(session, tokens, 0, NULL, &error), GEMLET_ARGUMENT, "no tokens");
  CHECK_REFUSED(gemlet_session_prefill(session, NULL, 1, NULL, &error), GEMLET_ARGUMENT, "tokens is NULL");
  CHECK_REFUSED(gemlet_session_prefill(NULL, tokens, 1, NULL, &error), GEMLET_ARGUMENT, "session is NULL");
  CHECK_REFUSED(gemlet_session_rewind(session, 1000, &error), GEMLET_ARGUMENT, "1000");
  CHECK_REFUSED(gemlet_session_rewind(NULL, 0, &error), GEMLET_ARGUMENT, "session is NULL");
  gemlet_session_free(fork);
  CHECK_REFUSED(gemlet_session_fork(NULL, &fork, &error), GEMLET_ARGUMENT, "session is NULL");
  CHECK(fork == NULL);
  CHECK_REFUSED(gemlet_session_fork(session, NULL, &error), GEMLET_ARGUMENT, "fork is NULL");
  CHECK_REFUSED(gemlet_session_new(NULL, 0, &fork, &error), GEMLET_ARGUMENT, "engine is NULL");
  CHECK_REFUSED(gemlet_session_new(engine, -1, &fork, &error), GEMLET_ARGUMENT, "context");
  CHECK_REFUSED(gemlet_session_new(engine, 0, NULL, &error), GEMLET_ARGUMENT, "session is NULL");
  for (i = 0; i < max_tokens; ++i) tokens[i] = tokens[0];
  CHECK_REFUSED(gemlet_session_prefill(session, tokens, max_tokens, NULL, &error), GEMLET_CONTEXT, "64");
  gemlet_session_free(session);
}

static void test_save(const gemlet_engine* engine, const char* model) {
  static float before[max_vocabulary];
  static float after[max_vocabulary];
  char path[4096];
  int32_t tokens[max_tokens];
  const size_t count = tokenize(engine, "hello", tokens);
  gemlet_session* session = new_session(engine);
  gemlet_session* restored = NULL;

  snprintf(path, sizeof path, "%s.session", model);
  CHECK(gemlet_session_prefill(session, tokens, count, NULL, &error) == GEMLET_OK);
  CHECK(gemlet_session_save(session, path, &error) == GEMLET_OK);
  CHECK(gemlet_session_prefill(session, tokens, 1, before, &error) == GEMLET_OK);
  gemlet_session_free(session);
  CHECK(gemlet_session_restore(engine, path, 0, &restored, &error) == GEMLET_OK);
  CHECK(gemlet_session_position(restored) == (int32_t)count);
  CHECK(gemlet_session_prefill(restored, tokens, 1, after, &error) == GEMLET_OK);
  CHECK(memcmp(before, after, sizeof(float) * (size_t)gemlet_engine_vocabulary(engine)) == 0);
  remove(path);
  CHECK_REFUSED(gemlet_session_save(restored, "/no/such/directory/file", &error), GEMLET_IO, "/no/such/directory");
  CHECK_REFUSED(gemlet_session_save(restored, NULL, &error), GEMLET_ARGUMENT, "path is NULL");
  CHECK_REFUSED(gemlet_session_save(NULL, path, &error), GEMLET_ARGUMENT, "session is NULL");
  gemlet_session_free(restored);
  CHECK_REFUSED(gemlet_session_restore(engine, path, 0, &restored, &error), GEMLET_IO, ".session");
  CHECK(restored == NULL);
  CHECK_REFUSED(gemlet_session_restore(engine, model, 0, &restored, &error), GEMLET_FORMAT, model);
  CHECK_REFUSED(gemlet_session_restore(NULL, path, 0, &restored, &error), GEMLET_ARGUMENT, "engine is NULL");
  CHECK_REFUSED(gemlet_session_restore(engine, NULL, 0, &restored, &error), GEMLET_ARGUMENT, "path is NULL");
  CHECK_REFUSED(gemlet_session_restore(engine, path, 0, NULL, &error), GEMLET_ARGUMENT, "session is NULL");
}

typedef struct Answer {
  gemlet_session* session;
  int calls;
  int stop_after;
  size_t length;
  char text[4096];
  gemlet_status nested;
} Answer;

static int on_text(void* user, const char* text, size_t length) {
  Answer* answer = user;
  if (length < sizeof answer->text - answer->length) {
    memcpy(answer->text + answer->length, text, length);
    answer->length += length;
  }
  ++answer->calls;
  answer->nested = gemlet_session_rewind(answer->session, 0, NULL);
  return answer->calls == answer->stop_after;
}

static void test_generate(const gemlet_engine* engine) {
  const gemlet_sampling sampling = greedy();
  gemlet_sampling bad = greedy();
  static Answer whole, again, stopped;
  gemlet_stats stats;
  char end[8] = "";
  const char* stop[1];
  int32_t tokens[max_tokens];
  const size_t count = tokenize(engine, "hello", tokens);
  gemlet_session* session = new_session(engine);
  size_t i;

  whole.session = again.session = stopped.session = session;
  CHECK(gemlet_generate(session, tokens, count, &sampling, 24, NULL, 0, on_text, &whole, &stats, &error) == GEMLET_OK);
  CHECK(stats.finish == GEMLET_FINISH_LENGTH && stats.generated_tokens == 24);
  CHECK(stats.prompt_tokens == (int32_t)count && stats.reused_tokens == 0 && stats.first_token_seconds > 0);
  CHECK(whole.calls > 1 && whole.length > 0);
  CHECK(whole.nested == GEMLET_ARGUMENT); /* a session is not to be used from its own callback */

  CHECK(gemlet_generate(session, tokens, count, &sampling, 24, NULL, 0, on_text, &again, &stats, &error) == GEMLET_OK);
  CHECK(stats.reused_tokens > 0);
  CHECK(again.length == whole.length && memcmp(again.text, whole.text, whole.length) == 0);

  stopped.stop_after = 2;
  CHECK(gemlet_generate(session, tokens, count, &sampling, 24, NULL, 0, on_text, &stopped, &stats, &error) ==
        GEMLET_OK);
  CHECK(stats.finish == GEMLET_FINISH_CANCELLED && stopped.calls == 2);
  CHECK(memcmp(stopped.text, whole.text, stopped.length) == 0);

  /* Stops before a printable letter of its own answer. */
  for (i = 1; i < whole.length && end[0] == '\0'; ++i) {
    if (whole.text[i] >= 'a' && whole.text[i] <= 'z') end[0] = whole.text[i];
  }
  CHECK(end[0] != '\0');
  stop[0] = end;
  memset(&again, 0, sizeof again);
  again.session = session;
  CHECK(gemlet_generate(session, tokens, count, &sampling, 24, stop, 1, on_text, &again, &stats, &error) == GEMLET_OK);
  CHECK(stats.finish == GEMLET_FINISH_STOP && memchr(again.text, end[0], again.length) == NULL);

  CHECK(gemlet_generate(session, tokens, count, &sampling, 1, NULL, 0, NULL, NULL, NULL, &error) == GEMLET_OK);
  CHECK(gemlet_generate(session, tokens, count, &sampling, 1000, NULL, 0, NULL, NULL, &stats, &error) == GEMLET_OK);
  CHECK(stats.finish == GEMLET_FINISH_CONTEXT || stats.finish == GEMLET_FINISH_STOP);

  stop[0] = NULL;
  bad.top_p = -1;
  CHECK_REFUSED(gemlet_generate(session, tokens, count, &sampling, 4, stop, 1, NULL, NULL, NULL, &error),
                GEMLET_ARGUMENT, "stop string is NULL");
  CHECK_REFUSED(gemlet_generate(session, tokens, count, &sampling, 4, NULL, 1, NULL, NULL, NULL, &error),
                GEMLET_ARGUMENT, "stop is NULL");
  CHECK_REFUSED(gemlet_generate(session, tokens, count, NULL, 4, NULL, 0, NULL, NULL, NULL, &error), GEMLET_ARGUMENT,
                "sampling is NULL");
  CHECK_REFUSED(gemlet_generate(session, tokens, count, &bad, 4, NULL, 0, NULL, NULL, NULL, &error), GEMLET_ARGUMENT,
                "top_p");
  CHECK_REFUSED(gemlet_generate(session, NULL, 1, &sampling, 4, NULL, 0, NULL, NULL, NULL, &error), GEMLET_ARGUMENT,
                "prompt is NULL");
  CHECK_REFUSED(gemlet_generate(session, NULL, 0, &sampling, 4, NULL, 0, NULL, NULL, NULL, &error), GEMLET_ARGUMENT,
                "prompt is empty");
  CHECK_REFUSED(gemlet_generate(NULL, tokens, count, &sampling, 4, NULL, 0, NULL, NULL, NULL, &error), GEMLET_ARGUMENT,
                "session is NULL");
  gemlet_session_free(session);
}

/* Another thread cancels while the first is inside the callback, and so inside the call. */
static void* cancel(void* session) {
  gemlet_session_cancel(session);
  return NULL;
}

static int on_text_cancelled(void* user, const char* text, size_t length) {
  pthread_t thread;
  (void)text;
  (void)length;
  if (pthread_create(&thread, NULL, cancel, user) == 0) pthread_join(thread, NULL);
  return 0;
}

static void test_cancel(const gemlet_engine* engine) {
  const gemlet_sampling sampling = greedy();
  gemlet_stats stats;
  int32_t tokens[max_tokens];
  const size_t count = tokenize(engine, "hello", tokens);
  gemlet_session* session = new_session(engine);
  CHECK_REFUSED(
      gemlet_generate(session, tokens, count, &sampling, 24, NULL, 0, on_text_cancelled, session, &stats, &error),
      GEMLET_CANCELLED, "cancelled");
  CHECK(stats.finish == GEMLET_FINISH_CANCELLED && stats.generated_tokens > 0 && stats.generated_tokens < 24);
  /* The session goes on, and a cancel before the call does not count. */
  gemlet_session_cancel(session);
  CHECK(gemlet_generate(session, tokens, count, &sampling, 4, NULL, 0, NULL, NULL, &stats, &error) == GEMLET_OK);
  CHECK(stats.generated_tokens == 4);
  gemlet_session_free(session);
}

/* A slice of the model is another model. */
static void test_slice(const gemlet_engine* whole, const char* model) {
  static float of_whole[max_vocabulary];
  static float of_part[max_vocabulary];
  gemlet_engine_options options = gemlet_default_engine_options();
  gemlet_engine* part = NULL;
  int32_t tokens[max_tokens];
  const size_t count = tokenize(whole, "hello", tokens);
  gemlet_session* session = new_session(whole);

  options.slice = "half";
  CHECK_REFUSED(gemlet_engine_load(model, &options, &part, &error), GEMLET_ARGUMENT, "slice: found \"half\"");
  options.slice = "0.5"; /* of 256, in blocks of 256 */
  CHECK_REFUSED(gemlet_engine_load(model, &options, &part, &error), GEMLET_ARGUMENT, "a multiple of 256");
  options.slice = "drop=3";
  CHECK(gemlet_engine_load(model, &options, &part, &error) == GEMLET_OK);
  CHECK(gemlet_session_prefill(session, tokens, count, of_whole, &error) == GEMLET_OK);
  gemlet_session_free(session);
  session = new_session(part);
  CHECK(gemlet_session_prefill(session, tokens, count, of_part, &error) == GEMLET_OK);
  CHECK(memcmp(of_whole, of_part, sizeof(float) * (size_t)gemlet_engine_vocabulary(whole)) != 0);
  gemlet_session_free(session);
  gemlet_engine_free(part);
}

/* A session outlives the engine's handle. */
static void test_lifetime(const char* path) {
  gemlet_engine* engine = load(path);
  gemlet_session* session = new_session(engine);
  int32_t tokens[max_tokens];
  const size_t count = tokenize(engine, "hello", tokens);
  gemlet_engine_free(engine);
  CHECK(gemlet_session_prefill(session, tokens, count, NULL, &error) == GEMLET_OK);
  gemlet_session_free(session);
}

static void test_null_handles(void) {
  gemlet_engine_free(NULL);
  gemlet_session_free(NULL);
  gemlet_session_cancel(NULL);
  CHECK(gemlet_engine_vocabulary(NULL) == 0 && gemlet_engine_context(NULL) == 0);
  CHECK(strcmp(gemlet_engine_chat_template(NULL), "") == 0);
  CHECK(gemlet_session_position(NULL) == 0);
}

int main(int argc, char** argv) {
  gemlet_engine* engine;
  if (argc != 2) {
    fprintf(stderr, "usage: %s MODEL\n", argv[0]);
    return 2;
  }
  engine = load(argv[1]);
  test_defaults();
  test_load_errors(argv[1]);
  test_long_message();
  test_text(engine);
  test_session(engine);
  test_save(engine, argv[1]);
  test_generate(engine);
  test_cancel(engine);
  test_slice(engine, argv[1]);
  test_lifetime(argv[1]);
  test_null_handles();
  gemlet_engine_free(engine);
  printf("%d passed, %d failed\n", checks - failures, failures);
  return failures == 0 ? 0 : 1;
}
