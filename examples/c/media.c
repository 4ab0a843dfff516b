/* A question about pictures and sounds: media MODEL ENCODERS QUESTION FILE...
 * The files are pictures in PPM (P6, 8 bits) and sounds in WAV (16 bits, one channel, 16 kHz): what takes no library to
 * read. ENCODERS is the MODEL once more where that holds them. */
#include <gemlet/gemlet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { max_files = 16, max_bytes = 1 << 26 };

static int print(void* user, const char* text, size_t length) {
  (void)user;
  fwrite(text, 1, length, stdout);
  return fflush(stdout); /* 0 goes on; an output that was closed ends the completion */
}

static int show(void* user, float share) {
  fprintf(stderr, "\r%s: %.0f %%%s", (const char*)user, 100 * (double)share, share == 1 ? "\n" : "");
  return 0; /* anything else stops */
}

static unsigned char* read_file(const char* path, size_t* size) {
  unsigned char* bytes = malloc(max_bytes);
  FILE* file = fopen(path, "rb");
  *size = 0;
  if (file != NULL && bytes != NULL) *size = fread(bytes, 1, max_bytes, file);
  if (file != NULL) fclose(file);
  return bytes;
}

static size_t little_endian(const unsigned char* bytes, int count) {
  size_t value = 0;
  while (count-- > 0) value = value << 8 | bytes[count];
  return value;
}

/* The pixels lie in the file as the library takes them. */
static int read_ppm(const unsigned char* bytes, size_t size, gemlet_picture* picture) {
  size_t numbers[3] = {0, 0, 0}; /* width, height, greatest value */
  size_t at = 2;
  for (int i = 0; i < 3; ++i) {
    while (at < size && (bytes[at] == '#' || bytes[at] <= ' ')) {
      if (bytes[at] == '#') {
        while (at < size && bytes[at] != '\n') ++at;
      } else {
        ++at;
      }
    }
    for (; at < size && bytes[at] >= '0' && bytes[at] <= '9' && numbers[i] < 100000; ++at) {
      numbers[i] = 10 * numbers[i] + (size_t)(bytes[at] - '0');
    }
  }
  ++at; /* one white space */
  if (size < 2 || memcmp(bytes, "P6", 2) != 0 || numbers[2] != 255 || at > size) return 0;
  if (numbers[0] == 0 || numbers[1] > (size - at) / 3 / numbers[0]) return 0;
  picture->pixels = bytes + at;
  picture->width = numbers[0];
  picture->height = numbers[1];
  return 1;
}

/* Floats in the place of the file's samples, or NULL. */
static float* read_wav(const unsigned char* bytes, size_t size, size_t* count) {
  int known = 0;
  if (size < 12 || memcmp(bytes, "RIFF", 4) != 0 || memcmp(bytes + 8, "WAVE", 4) != 0) return NULL;
  for (size_t at = 12; at + 8 <= size;) {
    const unsigned char* chunk = bytes + at + 8;
    size_t length = little_endian(bytes + at + 4, 4);
    if (length > size - at - 8) length = size - at - 8;
    if (memcmp(bytes + at, "fmt ", 4) == 0 && length >= 16) { /* PCM, one channel, rate, bits */
      known = little_endian(chunk, 2) == 1 && little_endian(chunk + 2, 2) == 1 &&
              little_endian(chunk + 4, 4) == 16000 && little_endian(chunk + 14, 2) == 16;
    } else if (memcmp(bytes + at, "data", 4) == 0 && known) {
      float* samples = malloc(sizeof(float) * (length / 2 + 1));
      *count = length / 2;
      for (size_t i = 0; samples != NULL && i < *count; ++i) {
        samples[i] = (float)(int16_t)little_endian(chunk + 2 * i, 2) / 32768;
      }
      return samples;
    }
    at += 8 + length + length % 2;
  }
  return NULL;
}

static gemlet_status encode(const gemlet_encoders* encoders, char* path, gemlet_medium** medium, gemlet_error* error) {
  gemlet_picture picture = {.struct_size = sizeof(picture)};
  gemlet_status status = GEMLET_FORMAT;
  size_t size = 0, count = 0;
  unsigned char* bytes = read_file(path, &size);
  float* samples = bytes == NULL ? NULL : read_wav(bytes, size, &count);
  if (samples != NULL) {
    status = gemlet_encode_sound(encoders, samples, count, show, path, medium, error);
  } else if (bytes != NULL && read_ppm(bytes, size, &picture)) {
    status = gemlet_encode_picture(encoders, &picture, show, path, medium, error);
  } else {
    snprintf(error->message, sizeof(error->message), "%s: expected a PPM picture or a WAV sound of 16 kHz", path);
  }
  free(samples);
  free(bytes);
  return status;
}

static gemlet_status ask(gemlet_session* session, const gemlet_part* parts, size_t count, gemlet_error* error) {
  gemlet_turn turn = {.struct_size = sizeof(turn), .role = "user", .parts = parts, .part_count = count};
  gemlet_request request = {.struct_size = sizeof(request), .turns = &turn, .turn_count = 1, .on_text = print};
  gemlet_stats stats = {.struct_size = sizeof(stats)};
  const gemlet_status status = gemlet_generate(session, &request, &stats, error);
  if (status == GEMLET_OK) printf("\n[%d tokens to a prompt of %d]\n", stats.generated_tokens, stats.prompt_tokens);
  return status;
}

int main(int argc, char** argv) {
  gemlet_error error = {.struct_size = sizeof(error)};
  gemlet_engine* engine = NULL;
  gemlet_encoders* encoders = NULL;
  gemlet_session* session = NULL;
  gemlet_medium* media[max_files] = {NULL};
  gemlet_part parts[max_files + 1] = {{0}};
  const int files = argc - 4;
  gemlet_status status;
  if (files < 1 || files > max_files) {
    fprintf(stderr, "usage: %s MODEL ENCODERS QUESTION FILE...\n", argv[0]);
    return 2;
  }
  status = gemlet_engine_load(argv[1], NULL, &engine, &error);
  if (status == GEMLET_OK) status = gemlet_session_new(engine, 0, &session, &error);
  if (status == GEMLET_OK) status = gemlet_encoders_load(argv[2], NULL, &encoders, &error);
  for (int i = 0; i < files && status == GEMLET_OK; ++i) {
    status = encode(encoders, argv[4 + i], &media[i], &error);
    parts[i] = (gemlet_part){.struct_size = sizeof(gemlet_part), .medium = media[i]};
  }
  parts[files] = (gemlet_part){.struct_size = sizeof(gemlet_part), .text = argv[3], .length = strlen(argv[3])};
  if (status == GEMLET_OK) status = ask(session, parts, (size_t)files + 1, &error);
  if (status != GEMLET_OK) fprintf(stderr, "%s error: %s\n", gemlet_status_name(status), error.message);
  for (int i = 0; i < files; ++i) gemlet_medium_free(media[i]);
  gemlet_session_free(session);
  gemlet_encoders_free(encoders);
  gemlet_engine_free(engine);
  return status == GEMLET_OK ? 0 : 1;
}
