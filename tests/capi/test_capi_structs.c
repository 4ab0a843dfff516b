/* The structs, the versions and the conversations of the C API: test_capi_structs MODEL, where MODEL is a small GGUF.
 */
#include "test_capi.h"

static void test_versions(void) {
  CHECK(GEMLET_ABI_VERSION == 1 && gemlet_abi_version() == GEMLET_ABI_VERSION);
  CHECK(strcmp(gemlet_version(), GEMLET_PROJECT_VERSION) == 0);
  CHECK(strcmp(gemlet_status_name(GEMLET_OK), "ok") == 0);
  CHECK(strcmp(gemlet_status_name(GEMLET_INTERNAL), "internal") == 0);
  CHECK(strcmp(gemlet_status_name(9), "unknown") == 0);
}

/* A program's struct with a field that this library does not know. */
typedef struct Newer {
  gemlet_engine_options options;
  int64_t added;
} Newer;

static void test_engine_options(const char* path) {
  Newer newer = {.options = {.struct_size = sizeof(Newer), .threads = 1}};
  gemlet_engine_options options = {.struct_size = sizeof(options)};
  gemlet_engine* engine = NULL;
  CHECK(gemlet_engine_load(path, &newer.options, &engine, &error) == GEMLET_OK);
  gemlet_engine_free(engine);
  newer.added = 1;
  CHECK_REFUSED(gemlet_engine_load(path, &newer.options, &engine, &error), GEMLET_UNSUPPORTED, "is not zero");
  CHECK(engine == NULL);
  options.struct_size = 0;
  CHECK_REFUSED(gemlet_engine_load(path, &options, &engine, &error), GEMLET_ARGUMENT, "options: struct_size is 0");
  options.struct_size = 8;
  CHECK_REFUSED(gemlet_engine_load(path, &options, &engine, &error), GEMLET_ARGUMENT, "struct_size is 8, expected");
  options.struct_size = 1 << 20;
  CHECK_REFUSED(gemlet_engine_load(path, &options, &engine, &error), GEMLET_ARGUMENT, "1048576");
}

/* An error that cannot be written to is not, and the call does nothing. */
static void test_error_struct(const gemlet_engine* engine) {
  struct {
    gemlet_error error;
    char after[8];
  } newer = {.after = "1234567"};
  gemlet_session* session = NULL;
  newer.error.struct_size = 0;
  strcpy(newer.error.message, "untouched");
  CHECK(gemlet_session_new(engine, 0, &session, &newer.error) == GEMLET_ARGUMENT && session == NULL);
  CHECK(strcmp(newer.error.message, "untouched") == 0);
  newer.error.struct_size = sizeof(newer);
  CHECK(gemlet_session_new(engine, -1, &session, &newer.error) == GEMLET_ARGUMENT);
  CHECK(newer.error.struct_size == sizeof(newer) && newer.error.status == GEMLET_ARGUMENT);
  CHECK(strstr(newer.error.message, "context") != NULL && newer.after[0] == 0 && newer.after[7] == 0);
}

static void test_sampling(const gemlet_engine* engine) {
  struct {
    gemlet_sampling sampling;
    float added;
    float padding;
  } newer = {.added = 1};
  gemlet_sampling sampling = {.temperature = -1};
  int32_t tokens[max_tokens];
  const size_t count = tokenize(engine, "hello", tokens);
  gemlet_request request = request_of(tokens, count, &sampling, 1);
  gemlet_session* session = new_session(engine);
  gemlet_sampling_init(NULL, sizeof(sampling));
  gemlet_sampling_init(&sampling, 8);
  CHECK(sampling.temperature == -1 && sampling.struct_size == 0);
  CHECK_REFUSED(gemlet_generate(session, &request, NULL, &error), GEMLET_ARGUMENT, "sampling: struct_size is 0");
  gemlet_sampling_init(&sampling, sizeof(sampling));
  CHECK(sampling.struct_size == sizeof(sampling) && sampling.temperature == 1.0F && sampling.top_k == 64);
  CHECK(sampling.top_p == 0.95F && sampling.min_p == 0 && sampling.repetition_penalty == 1.0F && sampling.seed == 0);
  gemlet_sampling_init(&newer.sampling, sizeof(newer));
  CHECK(newer.sampling.struct_size == sizeof(newer) && newer.sampling.top_k == 64 && newer.added == 0);
  request.sampling = &newer.sampling;
  CHECK(gemlet_generate(session, &request, NULL, &error) == GEMLET_OK);
  newer.added = 1;
  CHECK_REFUSED(gemlet_generate(session, &request, NULL, &error), GEMLET_UNSUPPORTED, "sampling: struct_size is");
  gemlet_session_free(session);
}

static void test_request_and_stats(const gemlet_engine* engine) {
  struct {
    gemlet_stats stats;
    double added;
  } newer = {.added = 1};
  gemlet_stats stats = {.struct_size = 4, .prompt_tokens = -7};
  int32_t tokens[max_tokens];
  const size_t count = tokenize(engine, "hello", tokens);
  gemlet_request request = request_of(tokens, count, NULL, 1);
  gemlet_session* session = new_session(engine);
  CHECK_REFUSED(gemlet_generate(session, &request, &stats, &error), GEMLET_ARGUMENT, "stats: struct_size is 4");
  CHECK(stats.prompt_tokens == -7 && position_of(session) == 0);
  newer.stats.struct_size = sizeof(newer);
  CHECK(gemlet_generate(session, &request, &newer.stats, &error) == GEMLET_OK);
  CHECK(newer.stats.struct_size == sizeof(newer) && newer.stats.prompt_tokens == (int32_t)count && newer.added == 0);
  request.struct_size = sizeof(request) - 8;
  CHECK_REFUSED(gemlet_generate(session, &request, NULL, &error), GEMLET_ARGUMENT, "request: struct_size is");
  gemlet_session_free(session);
}

static void test_info(const gemlet_engine* engine) {
  gemlet_model_info info = {.struct_size = sizeof(info)};
  char text[64];
  size_t length = 0;
  size_t names = 0;
  int found = 0;
  CHECK(gemlet_engine_info(engine, &info, &error) == GEMLET_OK);
  CHECK(strcmp(info.architecture, "gemma3n") == 0 && strstr(info.chat_template, "bos_token") != NULL);
  CHECK(info.hidden_size == 64 && info.layers == 5 && info.file_layers == 5 && info.context == 64);
  CHECK(info.trained_context == 512 && info.threads == 2 && info.file_bytes > 10000 && info.fingerprint != 0);
  CHECK(info.name != NULL && info.kernels[0] != '\0');
  info.struct_size = 0;
  CHECK_REFUSED(gemlet_engine_info(engine, &info, &error), GEMLET_ARGUMENT, "info: struct_size is 0");
  CHECK_REFUSED(gemlet_engine_info(engine, NULL, &error), GEMLET_ARGUMENT, "info is NULL");
  CHECK_REFUSED(gemlet_engine_info(NULL, &info, &error), GEMLET_ARGUMENT, "engine is NULL");

  CHECK(gemlet_engine_hyperparameter(engine, "hidden_size", text, sizeof(text), &length, &error) == GEMLET_OK);
  CHECK(strcmp(text, "64") == 0 && length == 2);
  CHECK(gemlet_engine_hyperparameter(engine, "intermediate_size", text, sizeof(text), &length, &error) == GEMLET_OK);
  CHECK(strcmp(text, "[256, 256, 256, 256, 256]") == 0);
  CHECK(gemlet_engine_hyperparameter(engine, "intermediate_size", NULL, 0, &length, &error) == GEMLET_OK);
  CHECK(length == strlen("[256, 256, 256, 256, 256]"));
  CHECK_REFUSED(gemlet_engine_hyperparameter(engine, "no_such", text, sizeof(text), &length, &error), GEMLET_ARGUMENT,
                "no hyperparameter \"no_such\"");
  CHECK_REFUSED(gemlet_engine_hyperparameter(engine, NULL, text, 1, &length, &error), GEMLET_ARGUMENT, "name is NULL");
  while (gemlet_engine_hyperparameter_name(engine, names) != NULL) {
    found += strcmp(gemlet_engine_hyperparameter_name(engine, names), "hidden_size") == 0;
    ++names;
  }
  CHECK(names > 5 && found == 1);
}

static void test_tokens(const gemlet_engine* engine) {
  gemlet_model_info info = {.struct_size = sizeof(info)};
  int32_t end = -1;
  int is_end = -1;
  CHECK(gemlet_engine_info(engine, &info, &error) == GEMLET_OK);
  CHECK(gemlet_find_token(engine, "<end_of_turn>", strlen("<end_of_turn>"), &end, &error) == GEMLET_OK && end > 0);
  CHECK(gemlet_is_end(engine, end, &is_end, &error) == GEMLET_OK && is_end == 1);
  CHECK(gemlet_is_end(engine, info.bos, &is_end, &error) == GEMLET_OK && is_end == 0);
  CHECK_REFUSED(gemlet_is_end(engine, info.vocabulary, &is_end, &error), GEMLET_ARGUMENT, "expected 0 to");
  CHECK_REFUSED(gemlet_is_end(engine, -1, &is_end, &error), GEMLET_ARGUMENT, "token is -1");
  CHECK_REFUSED(gemlet_find_token(engine, "no such", 7, &end, &error), GEMLET_ARGUMENT, "no piece \"no such\"");
}

static gemlet_turn turn(const char* role, const char* text) {
  gemlet_turn out = {.struct_size = sizeof(out), .role = role, .text = text};
  out.length = strlen(text);
  return out;
}

static void test_turns(const gemlet_engine* engine) {
  gemlet_turn turns[3];
  int32_t tokens[max_tokens];
  int32_t written[max_tokens];
  size_t count = 0;
  size_t expected = 0;
  int32_t sampled;
  const char* text = "<start_of_turn>user\nhello<end_of_turn>\n<start_of_turn>model\n";

  turns[0] = turn("user", " hello ");
  CHECK(gemlet_prompt(engine, turns, 1, GEMLET_GENERATION_PROMPT, tokens, max_tokens, &count, &error) == GEMLET_OK);
  CHECK(gemlet_tokenize(engine, text, strlen(text), 1, 1, written, max_tokens, &expected, &error) == GEMLET_OK);
  CHECK(count == expected && memcmp(tokens, written, sizeof(int32_t) * count) == 0);
  CHECK(gemlet_prompt(engine, turns, 1, GEMLET_COMPLETE, NULL, 0, &count, &error) == GEMLET_OK && count < expected);

  /* Sampled tokens take the place of the text. */
  sampled = tokens[1];
  turns[1] = turn("assistant", "never read");
  turns[1].tokens = &sampled;
  turns[1].token_count = 1;
  CHECK(gemlet_prompt(engine, turns, 2, GEMLET_OPEN_ANSWER, tokens, max_tokens, &count, &error) == GEMLET_OK);
  CHECK(count == expected + 1 && tokens[count - 1] == sampled);

  turns[1] = turn("user", "again");
  CHECK_REFUSED(gemlet_prompt(engine, turns, 2, 0, NULL, 0, &count, &error), GEMLET_ARGUMENT, "turn 1 (user)");
  turns[1] = turn("tool", "again");
  CHECK_REFUSED(gemlet_prompt(engine, turns, 2, 0, NULL, 0, &count, &error), GEMLET_ARGUMENT, "turn 1: ");
  CHECK(strstr(error.message, "tool") != NULL);
  turns[1] = turn("model", "again");
  turns[1].role = NULL;
  CHECK_REFUSED(gemlet_prompt(engine, turns, 2, 0, NULL, 0, &count, &error), GEMLET_ARGUMENT, "turn 1: role is NULL");
  turns[1] = turn("model", "again");
  turns[1].text = NULL;
  CHECK_REFUSED(gemlet_prompt(engine, turns, 2, 0, NULL, 0, &count, &error), GEMLET_ARGUMENT, "turn 1: text is NULL");
  turns[1] = turn("model", "again");
  turns[1].struct_size = 0;
  CHECK_REFUSED(gemlet_prompt(engine, turns, 2, 0, NULL, 0, &count, &error), GEMLET_ARGUMENT, "turn 1: struct_size");
  turns[1].struct_size = sizeof(gemlet_turn) + 8;
  turns[2] = turn("user", "");
  turns[2].struct_size = 0;
  CHECK_REFUSED(gemlet_prompt(engine, turns, 2, 0, NULL, 0, &count, &error), GEMLET_ARGUMENT, "that of the first turn");
  CHECK_REFUSED(gemlet_prompt(engine, turns, 1, 3, NULL, 0, &count, &error), GEMLET_ARGUMENT, "end is 3");
  CHECK_REFUSED(gemlet_prompt(engine, NULL, 1, 0, NULL, 0, &count, &error), GEMLET_ARGUMENT, "turns is NULL");
  CHECK_REFUSED(gemlet_prompt(engine, NULL, 0, 0, NULL, 0, &count, &error), GEMLET_ARGUMENT, "no turns");
}

/* Turns of a program with a newer header lie further apart. */
static void test_newer_turns(const gemlet_engine* engine) {
  struct {
    gemlet_turn turn;
    const void* added;
  } newer[2] = {{.turn = turn("user", "hello")}, {.turn = turn("model", "world")}};
  gemlet_turn turns[2];
  int32_t tokens[max_tokens];
  int32_t expected[max_tokens];
  size_t count = 0;
  size_t expected_count = 0;
  turns[0] = newer[0].turn;
  turns[1] = newer[1].turn;
  newer[0].turn.struct_size = newer[1].turn.struct_size = sizeof(newer[0]);
  CHECK(gemlet_prompt(engine, turns, 2, GEMLET_COMPLETE, expected, max_tokens, &expected_count, &error) == GEMLET_OK);
  CHECK(gemlet_prompt(engine, &newer[0].turn, 2, GEMLET_COMPLETE, tokens, max_tokens, &count, &error) == GEMLET_OK);
  CHECK(count == expected_count && memcmp(tokens, expected, sizeof(int32_t) * count) == 0);
  newer[1].added = newer;
  CHECK_REFUSED(gemlet_prompt(engine, &newer[0].turn, 2, 0, NULL, 0, &count, &error), GEMLET_UNSUPPORTED, "turn 1: ");
}

/* A request with turns answers like one with their tokens, and the next turn computes only what is new. */
static void test_conversation(const gemlet_engine* engine) {
  const gemlet_sampling sampling = greedy();
  gemlet_stats stats = {.struct_size = sizeof(stats)};
  gemlet_session* session = new_session(engine);
  gemlet_turn turns[3];
  int32_t tokens[max_tokens];
  int32_t from_tokens[4];
  int32_t from_turns[4];
  size_t count = 0;
  gemlet_request request;

  turns[0] = turn("user", "hello");
  CHECK(gemlet_prompt(engine, turns, 1, GEMLET_GENERATION_PROMPT, tokens, max_tokens, &count, &error) == GEMLET_OK);
  request = request_of(tokens, count, &sampling, 4);
  request.completion = from_tokens;
  request.completion_capacity = 4;
  CHECK(gemlet_generate(session, &request, NULL, &error) == GEMLET_OK);

  CHECK(gemlet_session_rewind(session, 0, &error) == GEMLET_OK);
  request = request_of(NULL, 0, &sampling, 4);
  request.turns = turns;
  request.turn_count = 1;
  request.completion = from_turns;
  request.completion_capacity = 4;
  CHECK(gemlet_generate(session, &request, &stats, &error) == GEMLET_OK);
  CHECK(stats.prompt_tokens == (int32_t)count && stats.generated_tokens == 4);
  CHECK(memcmp(from_turns, from_tokens, sizeof(from_turns)) == 0);

  turns[1] = turn("model", "");
  turns[1].tokens = from_turns;
  turns[1].token_count = 4;
  turns[2] = turn("user", "hello");
  request.turn_count = 3;
  CHECK(gemlet_generate(session, &request, &stats, &error) == GEMLET_OK);
  CHECK(stats.reused_tokens >= (int32_t)count + 3);
  gemlet_session_free(session);
}

int main(int argc, char** argv) {
  gemlet_engine* engine;
  if (argc != 2) {
    fprintf(stderr, "usage: %s MODEL\n", argv[0]);
    return 2;
  }
  engine = load(argv[1]);
  test_versions();
  test_engine_options(argv[1]);
  test_error_struct(engine);
  test_sampling(engine);
  test_request_and_stats(engine);
  test_info(engine);
  test_tokens(engine);
  test_turns(engine);
  test_newer_turns(engine);
  test_conversation(engine);
  gemlet_engine_free(engine);
  return finish();
}
