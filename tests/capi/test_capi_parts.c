/* Conversations with pictures and sounds in the C API: test_capi_parts FOLDER, where FOLDER has the files of
 * write_tiny_media. */
#include <pthread.h>
#include <stddef.h>

#include "test_capi_media.h"

enum { long_context = 1024 };

static gemlet_part text_part(const char* text) {
  gemlet_part part = {.struct_size = sizeof(part), .text = text};
  part.length = strlen(text);
  return part;
}

static gemlet_part medium_part(const gemlet_medium* medium) {
  gemlet_part part = {.struct_size = sizeof(part), .medium = medium};
  return part;
}

static gemlet_turn user_turn(const gemlet_part* parts, size_t count) {
  gemlet_turn turn = {.struct_size = sizeof(turn), .role = "user", .parts = parts};
  turn.part_count = count;
  return turn;
}

static gemlet_session* new_long_session(const gemlet_engine* engine) {
  gemlet_session* session = NULL;
  CHECK(gemlet_session_new(engine, long_context, &session, &error) == GEMLET_OK);
  return session;
}

/* The number of a conversation's tokens. */
static size_t count_of(const gemlet_engine* engine, const gemlet_turn* turns, size_t turn_count) {
  size_t count = 0;
  CHECK(gemlet_prompt(engine, turns, turn_count, GEMLET_GENERATION_PROMPT, NULL, 0, &count, &error) == GEMLET_OK);
  return count;
}

typedef struct Answer {
  gemlet_stats stats;
  int32_t tokens[4];
} Answer;

static Answer answer(gemlet_session* session, const gemlet_turn* turns, size_t turn_count) {
  const gemlet_sampling sampling = greedy();
  Answer out = {.stats = {.struct_size = sizeof(out.stats)}};
  gemlet_request request = request_of(NULL, 0, &sampling, 4);
  request.turns = turns;
  request.turn_count = turn_count;
  request.completion = out.tokens;
  request.completion_capacity = 4;
  CHECK(gemlet_generate(session, &request, &out.stats, &error) == GEMLET_OK);
  return out;
}

/* Logits after a conversation, in a session of its own. */
static void logits_of(const gemlet_engine* engine, const gemlet_turn* turns, size_t turn_count, float* logits) {
  gemlet_session* session = new_long_session(engine);
  size_t reused = 1;
  size_t count = 0;
  CHECK(gemlet_session_advance_to_turns(session, turns, turn_count, GEMLET_GENERATION_PROMPT, &reused, &error) ==
        GEMLET_OK);
  CHECK(reused == 0 && position_of(session) == count_of(engine, turns, turn_count));
  memset(logits, 0, sizeof(float) * max_vocabulary);
  CHECK(gemlet_session_logits(session, logits, max_vocabulary, &count, &error) == GEMLET_OK);
  gemlet_session_free(session);
}

static int same_logits(const float* a, const float* b) { return memcmp(a, b, sizeof(float) * max_vocabulary) == 0; }

/* Parts that are text are a text, and no text is a picture. */
static void test_text_parts(const gemlet_engine* engine) {
  const gemlet_part parts[] = {text_part("hello "), text_part("<start_of_image>")};
  const gemlet_turn turns[] = {
      user_turn(parts, 2),
      {.struct_size = sizeof(turns[0]), .role = "user", .text = "hello<start_of_image>", .length = 21}};
  int32_t tokens[2][max_tokens];
  size_t count[2] = {0, 1};
  int32_t mark = -1;
  size_t i;
  for (i = 0; i < 2; ++i) {
    CHECK(gemlet_prompt(engine, &turns[i], 1, GEMLET_COMPLETE, tokens[i], max_tokens, &count[i], &error) == GEMLET_OK);
  }
  CHECK(count[0] == count[1] && memcmp(tokens[0], tokens[1], sizeof(int32_t) * count[0]) == 0);
  CHECK(gemlet_find_token(engine, "<start_of_image>", 16, &mark, &error) == GEMLET_OK);
  for (i = 0; i < count[0]; ++i) CHECK(tokens[0][i] != mark);
}

/* What stands in a conversation, and where, is what the model sees. */
static void test_order(const gemlet_engine* engine, const gemlet_encoders* encoders) {
  static float logits[6][max_vocabulary];
  static float samples[sound_samples];
  gemlet_medium* first = encode(encoders, 0);
  gemlet_medium* second = encode(encoders, 1);
  gemlet_medium* sound = NULL;
  gemlet_part orders[6][3];
  gemlet_turn turn;
  size_t i, j;
  CHECK(gemlet_encode_sound(encoders, wave(samples), sound_samples, NULL, NULL, &sound, &error) == GEMLET_OK);
  for (i = 0; i < 6; ++i) {
    const gemlet_part parts[] = {medium_part(first), medium_part(i < 3 ? second : sound), text_part("hello")};
    for (j = 0; j < 3; ++j) orders[i][j] = parts[(i + j) % 3];
    turn = user_turn(orders[i], 3);
    CHECK(count_of(engine, &turn, 1) > (i < 3 ? 2 * 257 : 257 + 189));
    logits_of(engine, &turn, 1, logits[i]);
    for (j = 0; j < i; ++j) CHECK(!same_logits(logits[i], logits[j]));
  }
  gemlet_medium_free(first);
  gemlet_medium_free(second);
  gemlet_medium_free(sound);
}

/* The second turn computes only what is new, and media may be freed once their turns are not passed any more. */
static void test_reuse(const gemlet_engine* engine) {
  gemlet_encoders* encoders = load_encoders("mmproj.gguf");
  gemlet_session* session = new_long_session(engine);
  gemlet_medium* medium = encode(encoders, 0);
  const gemlet_part parts[] = {medium_part(medium), text_part("hello")};
  gemlet_turn turns[3];
  Answer one, two;
  gemlet_encoders_free(encoders);
  turns[0] = user_turn(parts, 2);
  one = answer(session, turns, 1);
  CHECK(one.stats.prompt_tokens == (int32_t)count_of(engine, turns, 1) && one.stats.reused_tokens == 0);
  turns[1] = (gemlet_turn){.struct_size = sizeof(gemlet_turn), .role = "model", .tokens = one.tokens};
  turns[1].token_count = (size_t)one.stats.generated_tokens;
  turns[2] = (gemlet_turn){.struct_size = sizeof(gemlet_turn), .role = "user", .text = "world", .length = 5};
  two = answer(session, turns, 3);
  CHECK(two.stats.prompt_tokens == (int32_t)count_of(engine, turns, 3));
  CHECK(two.stats.reused_tokens >= one.stats.prompt_tokens + one.stats.generated_tokens - 1);
  gemlet_medium_free(medium);
  CHECK(gemlet_session_prefill(session, one.tokens, 1, &error) == GEMLET_OK);
  gemlet_session_free(session);
}

/* Another picture in the same place is not taken for the first. */
static void test_no_mix_up(const gemlet_engine* engine, const gemlet_encoders* encoders) {
  gemlet_session* session = new_long_session(engine);
  gemlet_session* fresh = new_long_session(engine);
  gemlet_medium* media[] = {encode(encoders, 0), encode(encoders, 1)};
  gemlet_part part = medium_part(media[0]);
  const gemlet_turn turn = user_turn(&part, 1);
  Answer after, alone;
  answer(session, &turn, 1);
  part = medium_part(media[1]);
  after = answer(session, &turn, 1);
  CHECK(after.stats.reused_tokens < 257);
  alone = answer(fresh, &turn, 1);
  CHECK(after.stats.generated_tokens == alone.stats.generated_tokens);
  CHECK(memcmp(after.tokens, alone.tokens, sizeof alone.tokens) == 0);
  gemlet_session_free(session);
  gemlet_session_free(fresh);
  gemlet_medium_free(media[0]);
  gemlet_medium_free(media[1]);
}

/* A picture that is computed ahead; forks, rewinding and saved sessions have it. */
static void test_session(const gemlet_engine* engine, const gemlet_encoders* encoders) {
  static int32_t held[long_context];
  char path[4096];
  gemlet_medium* medium = encode(encoders, 0);
  const gemlet_part parts[] = {text_part("hello"), medium_part(medium), text_part("world")};
  const gemlet_turn turn = user_turn(parts, 3);
  gemlet_session* session = new_long_session(engine);
  gemlet_session* other = NULL;
  size_t ahead = 0, count = 0, reused = 0;
  CHECK(gemlet_session_advance_to_turns(session, &turn, 1, GEMLET_COMPLETE, NULL, &error) == GEMLET_OK);
  ahead = position_of(session);
  CHECK(answer(session, &turn, 1).stats.reused_tokens == (int32_t)ahead);
  CHECK(gemlet_session_advance_to_turns(session, &turn, 1, GEMLET_COMPLETE, &reused, &error) == GEMLET_OK);
  CHECK(reused == ahead - 1);

  CHECK(gemlet_session_fork(session, &other, &error) == GEMLET_OK);
  CHECK(answer(other, &turn, 1).stats.reused_tokens == (int32_t)ahead);
  gemlet_session_free(other);
  snprintf(path, sizeof path, "%s/session", folder);
  CHECK(gemlet_session_save(session, path, &error) == GEMLET_OK);
  CHECK(gemlet_session_restore(engine, path, long_context, &other, &error) == GEMLET_OK);
  CHECK(answer(other, &turn, 1).stats.reused_tokens == (int32_t)ahead);
  gemlet_session_free(other);
  remove(path);

  /* Its places hold 0, which is not the picture when it is passed as an id. */
  CHECK(gemlet_session_tokens(session, held, long_context, &count, &error) == GEMLET_OK);
  CHECK(count == ahead && held[ahead / 2] == 0);
  CHECK_REFUSED(gemlet_session_rewind(session, (int32_t)ahead / 2, &error), GEMLET_ARGUMENT, "inside of a picture");
  CHECK(position_of(session) == ahead);
  CHECK(gemlet_session_advance_to(session, held, count, &reused, &error) == GEMLET_OK);
  CHECK(reused < 16);
  gemlet_session_free(session);
  gemlet_medium_free(medium);
}

#define CHECK_TURN_REFUSED(turns, count, kind, part) \
  CHECK_REFUSED(gemlet_prompt(engine, turns, count, 0, NULL, 0, &counted, &error), kind, part)

static void test_bad_parts(const gemlet_engine* engine, const gemlet_encoders* encoders) {
  gemlet_medium* medium = encode(encoders, 0);
  gemlet_part parts[3] = {text_part("hello"), medium_part(medium), {0}};
  const gemlet_part good = parts[0];
  gemlet_turn turns[2] = {user_turn(parts, 2)};
  struct {
    gemlet_part part;
    const void* added;
  } newer[2] = {{.part = parts[0]}, {.part = parts[1]}};
  size_t counted = 0;
  size_t expected = count_of(engine, turns, 1);

  parts[0].struct_size = 0;
  CHECK_TURN_REFUSED(turns, 1, GEMLET_ARGUMENT, "turn 0: part 0: struct_size is 0");
  parts[0] = good;
  parts[1].struct_size += 8;
  CHECK_TURN_REFUSED(turns, 1, GEMLET_ARGUMENT, "that of the first part");
  parts[1] = medium_part(medium);
  parts[0].text = NULL;
  CHECK_TURN_REFUSED(turns, 1, GEMLET_ARGUMENT, "turn 0: part 0: text is NULL");
  parts[0] = good;
  parts[0].medium = medium;
  CHECK_TURN_REFUSED(turns, 1, GEMLET_ARGUMENT, "turn 0: part 0: has a text and a medium");
  parts[0] = good;
  turns[0].parts = NULL;
  CHECK_TURN_REFUSED(turns, 1, GEMLET_ARGUMENT, "turn 0: parts is NULL");
  turns[0] = user_turn(parts, 2);
  turns[0].text = "hello";
  turns[0].length = 5;
  CHECK_TURN_REFUSED(turns, 1, GEMLET_ARGUMENT, "has a text and parts");
  turns[0] = user_turn(parts, 2);
  turns[1] = turns[0];
  turns[1].role = "model";
  CHECK_TURN_REFUSED(turns, 2, GEMLET_ARGUMENT, "turn 1 (model): has parts");

  newer[0].part.struct_size = newer[1].part.struct_size = sizeof(newer[0]);
  turns[0].parts = &newer[0].part;
  CHECK(count_of(engine, turns, 1) == expected);
  newer[1].added = newer;
  CHECK_TURN_REFUSED(turns, 1, GEMLET_UNSUPPORTED, "turn 0: part 1: struct_size is");
  gemlet_medium_free(medium);
}

/* Turns of a program whose header has no parts yet, which lie closer together. */
static void test_older_turns(const gemlet_engine* engine) {
  enum { older = offsetof(gemlet_turn, parts) };
  const gemlet_turn turns[] = {
      {.struct_size = sizeof(turns[0]), .role = "user", .text = "hello", .length = 5},
      {.struct_size = sizeof(turns[0]), .role = "model", .text = "world", .length = 5},
  };
  union {
    gemlet_turn first;
    unsigned char bytes[2 * sizeof(gemlet_turn)];
  } memory;
  const size_t size = older;
  int32_t tokens[2][max_tokens];
  size_t count[2] = {0, 1};
  size_t i;
  memset(&memory, 255, sizeof memory);
  for (i = 0; i < 2; ++i) {
    memcpy(memory.bytes + i * older, &turns[i], older);
    memcpy(memory.bytes + i * older, &size, sizeof size);
  }
  CHECK(gemlet_prompt(engine, turns, 2, GEMLET_COMPLETE, tokens[0], max_tokens, &count[0], &error) == GEMLET_OK);
  CHECK(gemlet_prompt(engine, &memory.first, 2, GEMLET_COMPLETE, tokens[1], max_tokens, &count[1], &error) ==
        GEMLET_OK);
  CHECK(count[0] == count[1] && memcmp(tokens[0], tokens[1], sizeof(int32_t) * count[0]) == 0);
}

/* What token ids cannot hold, what does not fit, and what is another model's. */
static void test_refused(const gemlet_engine* engine, const gemlet_encoders* encoders) {
  const gemlet_sampling sampling = greedy();
  const float silence[100] = {0};
  gemlet_encoders* foreign_encoders = load_encoders("of_another_model.gguf");
  gemlet_medium* medium = encode(encoders, 0);
  gemlet_medium* foreign = NULL;
  gemlet_session* session = new_session(engine);
  gemlet_request request = request_of(NULL, 0, &sampling, 4);
  gemlet_part part = medium_part(medium);
  const gemlet_turn turn = user_turn(&part, 1);
  int32_t tokens[max_tokens] = {-7};
  size_t count = 0;
  request.turns = &turn;
  request.turn_count = 1;
  CHECK_REFUSED(gemlet_prompt(engine, &turn, 1, 0, tokens, max_tokens, &count, &error), GEMLET_ARGUMENT,
                "token ids cannot hold");
  CHECK(count == 0 && tokens[0] == -7);
  CHECK_REFUSED(gemlet_generate(session, &request, NULL, &error), GEMLET_CONTEXT, "64");
  CHECK_REFUSED(gemlet_session_advance_to_turns(session, &turn, 1, 0, NULL, &error), GEMLET_CONTEXT, "64");
  CHECK_REFUSED(gemlet_session_advance_to_turns(session, &turn, 1, 3, NULL, &error), GEMLET_ARGUMENT, "end is 3");
  CHECK_REFUSED(gemlet_session_advance_to_turns(session, NULL, 1, 0, NULL, &error), GEMLET_ARGUMENT, "turns is NULL");
  CHECK_REFUSED(gemlet_session_advance_to_turns(NULL, &turn, 1, 0, NULL, &error), GEMLET_ARGUMENT, "session is NULL");
  CHECK(position_of(session) == 0);

  CHECK(gemlet_encode_sound(foreign_encoders, silence, 100, NULL, NULL, &foreign, &error) == GEMLET_OK);
  part = medium_part(foreign);
  CHECK_REFUSED(gemlet_generate(session, &request, NULL, &error), GEMLET_ARGUMENT,
                "turn 0: a picture or a sound has embeddings of 32 numbers, expected 64");
  CHECK(position_of(session) == 0);
  gemlet_session_free(session);
  gemlet_medium_free(medium);
  gemlet_medium_free(foreign);
  gemlet_encoders_free(foreign_encoders);
}

/* A model that knows no pictures says so. */
static void test_no_markers(const gemlet_encoders* encoders) {
  gemlet_engine* engine = load(file_in_folder("text.gguf"));
  gemlet_medium* medium = encode(encoders, 0);
  const gemlet_part part = medium_part(medium);
  const gemlet_turn turn = user_turn(&part, 1);
  size_t counted = 0;
  CHECK_TURN_REFUSED(&turn, 1, GEMLET_UNSUPPORTED, "the vocabulary has no <start_of_image>");
  gemlet_medium_free(medium);
  gemlet_engine_free(engine);
}

typedef struct Eyes {
  const gemlet_encoders* encoders;
  int kind;
  gemlet_medium* medium;
} Eyes;

static void* look(void* pointer) {
  Eyes* eyes = pointer;
  uint8_t pixels[3 * width * height];
  const gemlet_picture picture = picture_of(pixels_of(eyes->kind, pixels));
  gemlet_encode_picture(eyes->encoders, &picture, NULL, NULL, &eyes->medium, NULL);
  return NULL;
}

/* Two threads encode at the same time what one encodes alone. */
static void test_threads(const gemlet_engine* engine, const gemlet_encoders* encoders) {
  static float together[2][max_vocabulary];
  static float alone[2][max_vocabulary];
  gemlet_encoders* others = load_encoders("mmproj.gguf"); /* which hold no medium */
  Eyes eyes[2] = {{.encoders = encoders, .kind = 3}, {.encoders = encoders, .kind = 4}};
  pthread_t threads[2];
  int i;
  for (i = 0; i < 2; ++i) CHECK(pthread_create(&threads[i], NULL, look, &eyes[i]) == 0);
  for (i = 0; i < 2; ++i) {
    gemlet_medium* medium = encode(others, eyes[i].kind);
    gemlet_part part = medium_part(medium);
    const gemlet_turn turn = user_turn(&part, 1);
    pthread_join(threads[i], NULL);
    logits_of(engine, &turn, 1, alone[i]);
    part.medium = eyes[i].medium;
    logits_of(engine, &turn, 1, together[i]);
    CHECK(gemlet_medium_tokens(eyes[i].medium) == 257 && same_logits(alone[i], together[i]));
    gemlet_medium_free(medium);
    gemlet_medium_free(eyes[i].medium);
  }
  CHECK(!same_logits(alone[0], alone[1]));
  gemlet_encoders_free(others);
}

int main(int argc, char** argv) {
  gemlet_engine* engine;
  gemlet_encoders* encoders;
  if (argc != 2) {
    fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  folder = argv[1];
  engine = load(file_in_folder("model.gguf"));
  encoders = load_encoders("mmproj.gguf");
  test_text_parts(engine);
  test_order(engine, encoders);
  test_reuse(engine);
  test_no_mix_up(engine, encoders);
  test_session(engine, encoders);
  test_bad_parts(engine, encoders);
  test_older_turns(engine);
  test_refused(engine, encoders);
  test_no_markers(encoders);
  test_threads(engine, encoders);
  gemlet_encoders_free(encoders);
  gemlet_engine_free(engine);
  return finish();
}
