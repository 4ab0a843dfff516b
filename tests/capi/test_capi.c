/* The C API from C: test_capi MODEL, where MODEL is a small GGUF. */
#include "test_capi.h"

#include <math.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_load_errors(const char* path) {
  gemlet_engine_options options = {.struct_size = sizeof(options)};
  gemlet_engine* engine = (gemlet_engine*)&options;
  CHECK_REFUSED(gemlet_engine_load("/no/such/file", &options, &engine, &error), GEMLET_IO, "/no/such/file");
  CHECK(engine == NULL);
  CHECK_REFUSED(gemlet_engine_load("/", &options, &engine, &error), GEMLET_IO, "directory");
  CHECK_REFUSED(gemlet_engine_load(NULL, &options, &engine, &error), GEMLET_ARGUMENT, "path is NULL");
  CHECK(gemlet_engine_load(path, NULL, &engine, &error) == GEMLET_OK); /* the defaults */
  gemlet_engine_free(engine);
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
  gemlet_engine_options options = {.struct_size = sizeof(options)};
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
  const size_t logit_bytes = sizeof(float) * vocabulary_of(engine);
  int32_t tokens[max_tokens];
  const size_t count = tokenize(engine, "hello world", tokens);
  gemlet_session* session = new_session(engine);
  gemlet_session* fork = NULL;
  size_t i;

  prefill(session, tokens, count, whole);
  CHECK(position_of(session) == count);
  CHECK(isfinite(whole[0]));
  CHECK(gemlet_session_fork(session, &fork, &error) == GEMLET_OK);
  CHECK(gemlet_session_rewind(session, 0, &error) == GEMLET_OK);
  CHECK(position_of(session) == 0 && position_of(fork) == count);
  for (i = 0; i < count; ++i) prefill(session, tokens + i, 1, stepped);
  CHECK(memcmp(whole, stepped, logit_bytes) == 0);

  prefill(session, tokens, 1, stepped);
  prefill(fork, tokens, 1, forked);
  CHECK(memcmp(stepped, forked, logit_bytes) == 0);
  CHECK(memcmp(stepped, whole, logit_bytes) != 0);
  prefill(fork, tokens, 1, NULL);

  CHECK_REFUSED(gemlet_session_prefill(session, tokens, 0, &error), GEMLET_ARGUMENT, "no tokens");
  CHECK_REFUSED(gemlet_session_prefill(session, NULL, 1, &error), GEMLET_ARGUMENT, "tokens is NULL");
  CHECK_REFUSED(gemlet_session_prefill(NULL, tokens, 1, &error), GEMLET_ARGUMENT, "session is NULL");
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
  CHECK_REFUSED(gemlet_session_prefill(session, tokens, max_tokens, &error), GEMLET_CONTEXT, "64");
  gemlet_session_free(session);
}

static void test_advance(const gemlet_engine* engine) {
  static float once[max_vocabulary];
  static float again[max_vocabulary];
  int32_t tokens[max_tokens];
  int32_t held[max_tokens];
  const size_t count = tokenize(engine, "hello world", tokens);
  gemlet_session* session = new_session(engine);
  size_t reused = 1;
  size_t written = 0;
  CHECK_REFUSED(gemlet_session_logits(session, NULL, 0, &written, &error), GEMLET_ARGUMENT, "no logits");
  CHECK(gemlet_session_advance_to(session, tokens, count, &reused, &error) == GEMLET_OK);
  CHECK(reused == 0 && position_of(session) == count);
  CHECK(gemlet_session_logits(session, NULL, 0, &written, &error) == GEMLET_OK && written == vocabulary_of(engine));
  CHECK(gemlet_session_logits(session, once, max_vocabulary, &written, &error) == GEMLET_OK);
  CHECK(gemlet_session_advance_to(session, tokens, count, &reused, &error) == GEMLET_OK);
  CHECK(reused == count - 1); /* the last token is computed for its logits */
  CHECK(gemlet_session_logits(session, again, max_vocabulary, &written, &error) == GEMLET_OK);
  CHECK(memcmp(once, again, sizeof(float) * written) == 0);
  CHECK(gemlet_session_advance_to(session, tokens, 2, NULL, &error) == GEMLET_OK);
  CHECK(gemlet_session_tokens(session, held, max_tokens, &written, &error) == GEMLET_OK);
  CHECK(written == 2 && memcmp(held, tokens, sizeof(int32_t) * 2) == 0);
  CHECK_REFUSED(gemlet_session_tokens(session, NULL, 1, &written, &error), GEMLET_ARGUMENT, "tokens is NULL");
  CHECK_REFUSED(gemlet_session_tokens(session, NULL, 0, NULL, &error), GEMLET_ARGUMENT, "count is NULL");
  CHECK_REFUSED(gemlet_session_logits(session, once, 1, NULL, &error), GEMLET_ARGUMENT, "count is NULL");
  CHECK_REFUSED(gemlet_session_advance_to(NULL, tokens, 2, NULL, &error), GEMLET_ARGUMENT, "session is NULL");
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
  prefill(session, tokens, count, NULL);
  CHECK(gemlet_session_save(session, path, &error) == GEMLET_OK);
  prefill(session, tokens, 1, before);
  gemlet_session_free(session);
  CHECK(gemlet_session_restore(engine, path, 0, &restored, &error) == GEMLET_OK);
  CHECK(position_of(restored) == count);
  prefill(restored, tokens, 1, after);
  CHECK(memcmp(before, after, sizeof(float) * vocabulary_of(engine)) == 0);
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

/* A model that is truncated while it is in use is an error, where the system would end the process. */
static void test_truncated(const char* model) {
  char path[4096];
  char bytes[4096];
  size_t count = 0;
  int32_t tokens[max_tokens];
  FILE* from = fopen(model, "rb");
  FILE* to = NULL;
  gemlet_engine* engine = NULL;
  gemlet_session* session = NULL;

  snprintf(path, sizeof path, "%s.copy", model);
  to = fopen(path, "wb");
  while ((count = fread(bytes, 1, sizeof bytes, from)) > 0) fwrite(bytes, 1, count, to);
  fclose(from);
  fclose(to);
  engine = load(path);
  session = new_session(engine);
  count = tokenize(engine, "hello", tokens);
  prefill(session, tokens, count, NULL);
  fclose(fopen(path, "wb")); /* empties it */
  for (int again = 0; again < 2; ++again) {
    CHECK_REFUSED(gemlet_session_prefill(session, tokens, 1, &error), GEMLET_IO, path);
    CHECK(strstr(error.message, "ends before byte 0") != NULL);
  }
  CHECK_REFUSED(gemlet_session_save(session, "/no/such/directory/file", &error), GEMLET_IO, path);
  CHECK(position_of(session) == count);
  gemlet_session_free(session);
  gemlet_engine_free(engine);
  remove(path);
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
  static Answer whole, again, stopped;
  gemlet_stats stats = {.struct_size = sizeof(stats)};
  char end[8] = "";
  const char* stop[1];
  int32_t tokens[max_tokens];
  int32_t answer[24];
  char text[4096];
  size_t length = 0;
  const size_t count = tokenize(engine, "hello", tokens);
  gemlet_session* session = new_session(engine);
  gemlet_request request = request_of(tokens, count, &sampling, 24);
  size_t i;

  whole.session = again.session = stopped.session = session;
  request.on_text = on_text;
  request.user = &whole;
  request.completion = answer;
  request.completion_capacity = 24;
  CHECK(gemlet_generate(session, &request, &stats, &error) == GEMLET_OK);
  CHECK(stats.finish == GEMLET_FINISH_LENGTH && stats.generated_tokens == 24);
  CHECK(stats.prompt_tokens == (int32_t)count && stats.reused_tokens == 0 && stats.first_token_seconds > 0);
  CHECK(whole.calls > 1 && whole.length > 0);
  CHECK(whole.nested == GEMLET_ARGUMENT); /* a session is not to be used from its own callback */
  CHECK(gemlet_detokenize(engine, answer, 24, 0, text, sizeof(text), &length, &error) == GEMLET_OK);
  CHECK(length > 0 && memcmp(text, whole.text, 1) == 0);

  request.user = &again;
  request.completion_capacity = 2;
  answer[2] = -7;
  CHECK(gemlet_generate(session, &request, &stats, &error) == GEMLET_OK);
  CHECK(stats.reused_tokens > 0 && stats.generated_tokens == 24 && answer[2] == -7);
  CHECK(again.length == whole.length && memcmp(again.text, whole.text, whole.length) == 0);
  request.completion = NULL;
  request.completion_capacity = 0;

  request.user = &stopped;
  stopped.stop_after = 2;
  CHECK(gemlet_generate(session, &request, &stats, &error) == GEMLET_OK);
  CHECK(stats.finish == GEMLET_FINISH_CANCELLED && stopped.calls == 2);
  CHECK(memcmp(stopped.text, whole.text, stopped.length) == 0);

  /* Drafts change nothing. */
  memset(&again, 0, sizeof again);
  again.session = session;
  request.user = &again;
  request.speculate = GEMLET_SPECULATE_LOOKUP;
  CHECK(gemlet_generate(session, &request, &stats, &error) == GEMLET_OK);
  CHECK(again.length == whole.length && memcmp(again.text, whole.text, whole.length) == 0);
  request.speculate = GEMLET_SPECULATE_NONE;

  /* Stops before a printable letter of its own answer. */
  for (i = 1; i < whole.length && end[0] == '\0'; ++i) {
    if (whole.text[i] >= 'a' && whole.text[i] <= 'z') end[0] = whole.text[i];
  }
  CHECK(end[0] != '\0');
  stop[0] = end;
  memset(&again, 0, sizeof again);
  again.session = session;
  request.stop = stop;
  request.stop_count = 1;
  CHECK(gemlet_generate(session, &request, &stats, &error) == GEMLET_OK);
  CHECK(stats.finish == GEMLET_FINISH_STOP && memchr(again.text, end[0], again.length) == NULL);

  request = request_of(tokens, count, &sampling, 1);
  CHECK(gemlet_generate(session, &request, NULL, &error) == GEMLET_OK);
  request.max_tokens = 1000;
  CHECK(gemlet_generate(session, &request, &stats, &error) == GEMLET_OK);
  CHECK(stats.finish == GEMLET_FINISH_CONTEXT || stats.finish == GEMLET_FINISH_STOP);
  gemlet_session_free(session);
}

static void test_bad_requests(const gemlet_engine* engine) {
  const gemlet_sampling sampling = greedy();
  gemlet_sampling bad = greedy();
  const char* stop[1] = {NULL};
  int32_t tokens[max_tokens];
  const size_t count = tokenize(engine, "hello", tokens);
  gemlet_session* session = new_session(engine);
  const gemlet_request good = request_of(tokens, count, &sampling, 4);
  gemlet_request request = good;

  CHECK_REFUSED(gemlet_generate(session, NULL, NULL, &error), GEMLET_ARGUMENT, "request is NULL");
  CHECK_REFUSED(gemlet_generate(NULL, &request, NULL, &error), GEMLET_ARGUMENT, "session is NULL");
  request.stop = stop;
  request.stop_count = 1;
  CHECK_REFUSED(gemlet_generate(session, &request, NULL, &error), GEMLET_ARGUMENT, "stop string is NULL");
  request.stop = NULL;
  CHECK_REFUSED(gemlet_generate(session, &request, NULL, &error), GEMLET_ARGUMENT, "stop is NULL");
  request = good;
  bad.top_p = -1;
  request.sampling = &bad;
  CHECK_REFUSED(gemlet_generate(session, &request, NULL, &error), GEMLET_ARGUMENT, "top_p");
  request = good;
  request.prompt = NULL;
  CHECK_REFUSED(gemlet_generate(session, &request, NULL, &error), GEMLET_ARGUMENT, "prompt is NULL");
  request.prompt_count = 0;
  CHECK_REFUSED(gemlet_generate(session, &request, NULL, &error), GEMLET_ARGUMENT, "prompt is empty");
  request = good;
  request.turn_count = 1;
  CHECK_REFUSED(gemlet_generate(session, &request, NULL, &error), GEMLET_ARGUMENT, "turns and a prompt");
  request = good;
  request.completion_capacity = 1;
  CHECK_REFUSED(gemlet_generate(session, &request, NULL, &error), GEMLET_ARGUMENT, "completion is NULL");
  request = good;
  request.speculate = 3;
  CHECK_REFUSED(gemlet_generate(session, &request, NULL, &error), GEMLET_ARGUMENT, "speculate is 3");
  request = good;
  request.max_tokens = -1;
  CHECK_REFUSED(gemlet_generate(session, &request, NULL, &error), GEMLET_ARGUMENT, "max_tokens is -1");
  CHECK(position_of(session) == 0);
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
  gemlet_stats stats = {.struct_size = sizeof(stats)};
  int32_t tokens[max_tokens];
  const size_t count = tokenize(engine, "hello", tokens);
  gemlet_session* session = new_session(engine);
  gemlet_request request = request_of(tokens, count, &sampling, 24);
  request.on_text = on_text_cancelled;
  request.user = session;
  CHECK_REFUSED(gemlet_generate(session, &request, &stats, &error), GEMLET_CANCELLED, "cancelled");
  CHECK(stats.finish == GEMLET_FINISH_CANCELLED && stats.generated_tokens > 0 && stats.generated_tokens < 24);
  /* The session goes on, and a cancel before the call does not count. */
  gemlet_session_cancel(session);
  request = request_of(tokens, count, &sampling, 4);
  CHECK(gemlet_generate(session, &request, &stats, &error) == GEMLET_OK);
  CHECK(stats.generated_tokens == 4);
  gemlet_session_free(session);
}

/* Another thread forks while the first is inside a call. The child has that thread alone: the engine computes there,
 * and the session stays busy. */
typedef struct {
  const gemlet_engine* engine;
  gemlet_session* session;
  int forked;
  int status;
} forking;

static int check_child(const forking* user) {
  const gemlet_sampling sampling = greedy();
  int32_t tokens[max_tokens];
  const size_t count = tokenize(user->engine, "hello", tokens);
  const gemlet_request request = request_of(tokens, count, &sampling, 4);
  gemlet_session* session = new_session(user->engine);
  failures = 0;
  CHECK_REFUSED(gemlet_session_prefill(user->session, tokens, count, &error), GEMLET_ARGUMENT, "in the parent only");
  gemlet_session_free(user->session);
  CHECK(gemlet_generate(session, &request, NULL, &error) == GEMLET_OK);
  gemlet_session_free(session);
  return failures;
}

static void* fork_and_wait(void* pointer) {
  forking* user = pointer;
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    _exit(check_child(user));
  }
  waitpid(child, &user->status, 0);
  return NULL;
}

static int on_text_forked(void* pointer, const char* text, size_t length) {
  forking* user = pointer;
  pthread_t thread;
  (void)text;
  (void)length;
  if (!user->forked && pthread_create(&thread, NULL, fork_and_wait, user) == 0) pthread_join(thread, NULL);
  user->forked = 1;
  return 0;
}

static void test_fork(const gemlet_engine* engine) {
  const gemlet_sampling sampling = greedy();
  int32_t tokens[max_tokens];
  const size_t count = tokenize(engine, "hello", tokens);
  forking user = {engine, new_session(engine), 0, -1};
  gemlet_request request = request_of(tokens, count, &sampling, 24);
  request.on_text = on_text_forked;
  request.user = &user;
  CHECK(gemlet_generate(user.session, &request, NULL, &error) == GEMLET_OK);
  CHECK(user.forked && user.status == 0);
  gemlet_session_free(user.session);
}

/* A slice of the model is another model. */
static void test_slice(const gemlet_engine* whole, const char* model) {
  static float of_whole[max_vocabulary];
  static float of_part[max_vocabulary];
  gemlet_engine_options options = {.struct_size = sizeof(options)};
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
  prefill(session, tokens, count, of_whole);
  gemlet_session_free(session);
  session = new_session(part);
  prefill(session, tokens, count, of_part);
  CHECK(memcmp(of_whole, of_part, sizeof(float) * vocabulary_of(whole)) != 0);
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
  prefill(session, tokens, count, NULL);
  gemlet_session_free(session);
}

static void test_null_handles(void) {
  gemlet_engine_free(NULL);
  gemlet_session_free(NULL);
  gemlet_session_cancel(NULL);
  CHECK(gemlet_engine_hyperparameter_name(NULL, 0) == NULL);
}

int main(int argc, char** argv) {
  gemlet_engine* engine;
  if (argc != 2) {
    fprintf(stderr, "usage: %s MODEL\n", argv[0]);
    return 2;
  }
  engine = load(argv[1]);
  test_load_errors(argv[1]);
  test_long_message();
  test_text(engine);
  test_session(engine);
  test_save(engine, argv[1]);
  test_truncated(argv[1]);
  test_generate(engine);
  test_bad_requests(engine);
  test_advance(engine);
  test_cancel(engine);
  test_fork(engine);
  test_slice(engine, argv[1]);
  test_lifetime(argv[1]);
  test_null_handles();
  gemlet_engine_free(engine);
  return finish();
}
