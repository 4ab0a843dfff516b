/* A conversation on the terminal: chat MODEL. Each line of standard input is a turn; the replies are streamed. */
#include <gemlet/gemlet.h>
#include <stdio.h>
#include <string.h>

enum { max_turns = 64, max_line = 4096, max_answer = 512 };

static int print(void* user, const char* text, size_t length) {
  (void)user;
  fwrite(text, 1, length, stdout);
  return fflush(stdout); /* 0 goes on; an output that was closed ends the completion */
}

static gemlet_status chat(gemlet_session* session, gemlet_error* error) {
  static gemlet_turn turns[max_turns];
  static char lines[max_turns][max_line];
  static int32_t answers[max_turns][max_answer];
  gemlet_sampling sampling;
  size_t count = 0;
  gemlet_sampling_init(&sampling, sizeof(sampling));
  sampling.temperature = 0; /* the most likely token each time */

  while (count + 2 <= max_turns && fgets(lines[count], max_line, stdin) != NULL) {
    gemlet_request request = {.struct_size = sizeof(request)};
    gemlet_stats stats = {.struct_size = sizeof(stats)};
    gemlet_status status;
    turns[count] = (gemlet_turn){.struct_size = sizeof(gemlet_turn), .role = "user", .text = lines[count]};
    turns[count].length = strcspn(lines[count], "\n");
    ++count;
    request.turns = turns;
    request.turn_count = count;
    request.sampling = &sampling;
    request.on_text = print;
    request.completion = answers[count];
    request.completion_capacity = max_answer;
    request.max_tokens = max_answer;
    status = gemlet_generate(session, &request, &stats, error);
    if (status != GEMLET_OK) return status;
    printf("\n[%d tokens, %d of the prompt's %d reused]\n", stats.generated_tokens, stats.reused_tokens,
           stats.prompt_tokens);
    /* The completion's tokens become a turn, so that nothing of it is computed again. */
    turns[count] = (gemlet_turn){.struct_size = sizeof(gemlet_turn), .role = "model", .tokens = answers[count]};
    turns[count].token_count = (size_t)stats.generated_tokens;
    ++count;
  }
  return GEMLET_OK;
}

int main(int argc, char** argv) {
  gemlet_error error = {.struct_size = sizeof(error)};
  gemlet_engine* engine = NULL;
  gemlet_session* session = NULL;
  gemlet_status status;
  if (argc != 2) {
    fprintf(stderr, "usage: %s MODEL\n", argv[0]);
    return 2;
  }
  status = gemlet_engine_load(argv[1], NULL, &engine, &error);
  if (status == GEMLET_OK) status = gemlet_session_new(engine, 0, &session, &error);
  if (status == GEMLET_OK) status = chat(session, &error);
  if (status != GEMLET_OK) fprintf(stderr, "%s error: %s\n", gemlet_status_name(status), error.message);
  gemlet_session_free(session);
  gemlet_engine_free(engine);
  return status == GEMLET_OK ? 0 : 1;
}
