/* Pictures and sounds in the C API: test_capi_media FOLDER, where FOLDER has the files of write_tiny_media. */
#include "test_capi_media.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

/* Counts, and stops at the call with this number. */
typedef struct Progress {
  int calls;
  int stop_at;
  float last;
} Progress;

static int on_progress(void* user, float share) {
  Progress* progress = user;
  CHECK(progress->calls == 0 ? share == 0 : share >= progress->last && share <= 1);
  progress->last = share;
  return ++progress->calls == progress->stop_at;
}

/* Whether a medium of the picture is held. One that is held is not encoded again: only the beginning and the end are
 * told. */
static int is_held(const gemlet_encoders* encoders, const gemlet_picture* picture) {
  Progress progress = {0};
  gemlet_medium* medium = NULL;
  CHECK(gemlet_encode_picture(encoders, picture, on_progress, &progress, &medium, &error) == GEMLET_OK);
  gemlet_medium_free(medium);
  return progress.calls == 2;
}

static void test_load_encoders(void) {
  gemlet_engine_options options = {.struct_size = sizeof(options)};
  gemlet_encoders* encoders = (gemlet_encoders*)&options;
  CHECK_REFUSED(gemlet_encoders_load("/no/such/file", NULL, &encoders, &error), GEMLET_IO, "/no/such/file");
  CHECK(encoders == NULL);
  CHECK_REFUSED(gemlet_encoders_load(NULL, NULL, &encoders, &error), GEMLET_ARGUMENT, "path is NULL");
  CHECK_REFUSED(gemlet_encoders_load("/", NULL, NULL, &error), GEMLET_ARGUMENT, "encoders is NULL");
  CHECK_REFUSED(gemlet_encoders_load(file_in_folder("model.gguf"), NULL, &encoders, &error), GEMLET_UNSUPPORTED,
                "holds no encoder");
  CHECK_REFUSED(gemlet_encoders_load(file_in_folder("sound.wav"), NULL, &encoders, &error), GEMLET_FORMAT, "sound.wav");
  options.threads = -1;
  CHECK_REFUSED(gemlet_encoders_load(file_in_folder("mmproj.gguf"), &options, &encoders, &error), GEMLET_ARGUMENT,
                "threads");
  options.struct_size = 0;
  CHECK_REFUSED(gemlet_encoders_load(file_in_folder("mmproj.gguf"), &options, &encoders, &error), GEMLET_ARGUMENT,
                "options: struct_size is 0");
  CHECK(encoders == NULL);
  CHECK(gemlet_encoders_load("/no/such/file", NULL, &encoders, NULL) == GEMLET_IO);
  gemlet_encoders_free(NULL);
}

static void test_info(void) {
  struct {
    gemlet_media_info info;
    int64_t added;
  } newer = {.info = {.struct_size = sizeof(newer)}, .added = 7};
  static const struct {
    const char* file;
    int sees, hears, hidden_size;
  } files[] = {{"mmproj.gguf", 1, 1, 64},
               {"deaf.gguf", 1, 0, 64},
               {"blind.gguf", 0, 1, 64},
               {"of_another_model.gguf", 0, 1, 32}};
  gemlet_encoders* encoders = NULL;
  size_t i;
  for (i = 0; i < sizeof files / sizeof files[0]; ++i) {
    gemlet_media_info info = {.struct_size = sizeof(info)};
    encoders = load_encoders(files[i].file);
    CHECK(gemlet_encoders_info(encoders, &info, &error) == GEMLET_OK);
    CHECK(info.sees == files[i].sees && info.hears == files[i].hears && info.hidden_size == files[i].hidden_size);
    CHECK(info.sample_rate == 16000 && info.struct_size == sizeof(info));
    info.struct_size = 0;
    CHECK_REFUSED(gemlet_encoders_info(encoders, &info, &error), GEMLET_ARGUMENT, "info: struct_size is 0");
    if (i == 0) CHECK(gemlet_encoders_info(encoders, &newer.info, &error) == GEMLET_OK && newer.added == 0);
    CHECK_REFUSED(gemlet_encoders_info(encoders, NULL, &error), GEMLET_ARGUMENT, "info is NULL");
    gemlet_encoders_free(encoders);
  }
  CHECK_REFUSED(gemlet_encoders_info(NULL, &newer.info, &error), GEMLET_ARGUMENT, "encoders is NULL");
}

/* The same picture in every format, with and without gaps between its rows. */
static void test_formats(const gemlet_encoders* encoders) {
  static uint8_t rgb[3 * width * height];
  static uint8_t rgba[(4 * width + 5) * height];
  static uint8_t on_white[3 * width * height];
  gemlet_picture picture = picture_of(pixels_of(0, rgb));
  gemlet_picture with_alpha = picture_of(rgba);
  gemlet_medium* medium = encode(encoders, 0);
  size_t x, y, c;
  CHECK(gemlet_medium_tokens(medium) == 257);
  CHECK(is_held(encoders, &picture));
  picture.size = 512;
  CHECK(!is_held(encoders, &picture));
  for (y = 0; y < height; ++y) {
    for (x = 0; x < width; ++x) {
      memcpy(rgba + y * (4 * width + 5) + 4 * x, rgb + 3 * (width * y + x), 3);
      rgba[y * (4 * width + 5) + 4 * x + 3] = 255;
    }
  }
  with_alpha.stride = 4 * width + 5;
  with_alpha.format = GEMLET_RGBA8;
  CHECK(is_held(encoders, &with_alpha));
  with_alpha.format = GEMLET_RGBA8_PREMULTIPLIED;
  CHECK(is_held(encoders, &with_alpha));
  with_alpha.format = GEMLET_RGB8;
  CHECK(!is_held(encoders, &with_alpha));
  gemlet_medium_free(medium);

  /* Alpha is put on white: of the colour as it is, or already multiplied and never above white. */
  for (y = 0; y < height; ++y) {
    for (x = 0; x < width; ++x) {
      const unsigned alpha = (unsigned)(12 * x + 2 * y);
      rgba[y * (4 * width + 5) + 4 * x + 3] = (uint8_t)alpha;
      for (c = 0; c < 3; ++c) {
        on_white[3 * (width * y + x) + c] =
            (uint8_t)floor((rgb[3 * (width * y + x) + c] * alpha + 255.0 * (255 - alpha)) / 255 + 0.5);
      }
    }
  }
  picture = picture_of(on_white);
  CHECK(gemlet_encode_picture(encoders, &picture, NULL, NULL, &medium, &error) == GEMLET_OK);
  with_alpha.format = GEMLET_RGBA8;
  CHECK(is_held(encoders, &with_alpha));
  gemlet_medium_free(medium);
  for (c = 0; c < sizeof rgb; ++c) {
    const unsigned alpha = rgba[c / 3 / width * (4 * width + 5) + 4 * (c / 3 % width) + 3];
    on_white[c] = (uint8_t)(rgb[c] > alpha ? 255 : rgb[c] + 255 - alpha);
  }
  CHECK(gemlet_encode_picture(encoders, &picture, NULL, NULL, &medium, &error) == GEMLET_OK);
  with_alpha.format = GEMLET_RGBA8_PREMULTIPLIED;
  CHECK(is_held(encoders, &with_alpha));
  gemlet_medium_free(medium);
}

#define CHECK_PICTURE_REFUSED(picture, part)                                                                        \
  do {                                                                                                              \
    medium = (gemlet_medium*)&medium;                                                                               \
    CHECK_REFUSED(gemlet_encode_picture(encoders, &(picture), NULL, NULL, &medium, &error), GEMLET_ARGUMENT, part); \
    CHECK(medium == NULL);                                                                                          \
  } while (0)

static void test_bad_pictures(const gemlet_encoders* encoders) {
  struct {
    gemlet_picture picture;
    int64_t added;
  } newer = {.added = 0};
  uint8_t pixels[3 * width * height];
  const gemlet_picture good = picture_of(pixels_of(0, pixels));
  gemlet_picture picture = good;
  gemlet_medium* medium = NULL;

  picture.pixels = NULL;
  CHECK_PICTURE_REFUSED(picture, "pixels are null");
  picture = good;
  picture.width = 0;
  CHECK_PICTURE_REFUSED(picture, "0 x 12 pixels");
  picture.width = 65537;
  CHECK_PICTURE_REFUSED(picture, "65537 x 12 pixels");
  picture.width = SIZE_MAX;
  CHECK_PICTURE_REFUSED(picture, "expected 1 to 65536");
  picture = good;
  picture.height = 0;
  CHECK_PICTURE_REFUSED(picture, "20 x 0 pixels");
  picture = good;
  picture.stride = 3 * width - 1;
  CHECK_PICTURE_REFUSED(picture, "rows of 59 bytes for a picture of 20 pixels of 3 bytes");
  picture.format = GEMLET_RGBA8;
  picture.stride = 3 * width;
  CHECK_PICTURE_REFUSED(picture, "rows of 60 bytes for a picture of 20 pixels of 4 bytes");
  picture = good;
  picture.stride = (size_t)-(3 * width); /* from the lowest row up */
  CHECK_PICTURE_REFUSED(picture, "expected 60 to");
  picture = good;
  picture.format = 3;
  CHECK_PICTURE_REFUSED(picture, "format is 3");
  picture = good;
  picture.size = 300;
  CHECK_PICTURE_REFUSED(picture, "300");
  picture.size = -256;
  CHECK_PICTURE_REFUSED(picture, "-256");
  picture = good;
  picture.struct_size = 8;
  CHECK_PICTURE_REFUSED(picture, "picture: struct_size is 8");

  newer.picture = good;
  newer.picture.struct_size = sizeof(newer);
  CHECK(gemlet_encode_picture(encoders, &newer.picture, NULL, NULL, &medium, &error) == GEMLET_OK);
  gemlet_medium_free(medium);
  newer.added = 1;
  CHECK_REFUSED(gemlet_encode_picture(encoders, &newer.picture, NULL, NULL, &medium, &error), GEMLET_UNSUPPORTED,
                "picture: struct_size is");
  CHECK_REFUSED(gemlet_encode_picture(encoders, NULL, NULL, NULL, &medium, &error), GEMLET_ARGUMENT, "picture is NULL");
  CHECK_REFUSED(gemlet_encode_picture(NULL, &good, NULL, NULL, &medium, &error), GEMLET_ARGUMENT, "encoders is NULL");
  CHECK_REFUSED(gemlet_encode_picture(encoders, &good, NULL, NULL, NULL, &error), GEMLET_ARGUMENT, "medium is NULL");
}

static void test_progress(const gemlet_encoders* encoders) {
  static float samples[sound_samples];
  uint8_t pixels[3 * width * height];
  const gemlet_picture picture = picture_of(pixels_of(0, pixels));
  Progress whole = {0};
  Progress whole_sound = {0};
  gemlet_medium* medium = NULL;
  int i;
  CHECK(gemlet_encode_picture(encoders, &picture, on_progress, &whole, &medium, &error) == GEMLET_OK);
  CHECK(whole.calls > 2 && whole.last == 1);
  gemlet_medium_free(medium);
  for (i = 1; i <= whole.calls; ++i) {
    Progress progress = {.stop_at = i};
    medium = (gemlet_medium*)&medium;
    CHECK_REFUSED(gemlet_encode_picture(encoders, &picture, on_progress, &progress, &medium, &error), GEMLET_CANCELLED,
                  "cancelled");
    CHECK(medium == NULL && progress.calls == i);
  }
  wave(samples);
  CHECK(gemlet_encode_sound(encoders, samples, sound_samples, on_progress, &whole_sound, &medium, &error) == GEMLET_OK);
  CHECK(whole_sound.calls >= 2 && whole_sound.last == 1);
  gemlet_medium_free(medium);
  for (i = 1; i <= whole_sound.calls; ++i) {
    Progress progress = {.stop_at = i};
    CHECK_REFUSED(gemlet_encode_sound(encoders, samples, sound_samples, on_progress, &progress, &medium, &error),
                  GEMLET_CANCELLED, "cancelled");
    CHECK(medium == NULL && progress.calls == i);
  }
}

static void test_sounds(const gemlet_encoders* encoders) {
  static float samples[sound_samples];
  gemlet_medium* medium = NULL;
  wave(samples);
  CHECK(gemlet_encode_sound(encoders, samples, 1, NULL, NULL, &medium, &error) == GEMLET_OK);
  CHECK(gemlet_medium_tokens(medium) == 189); /* filled up, and the mark behind it */
  gemlet_medium_free(medium);
  CHECK_REFUSED(gemlet_encode_sound(encoders, samples, 0, NULL, NULL, &medium, &error), GEMLET_ARGUMENT, "no samples");
  CHECK_REFUSED(gemlet_encode_sound(encoders, NULL, 1, NULL, NULL, &medium, &error), GEMLET_ARGUMENT,
                "samples is NULL");
  CHECK_REFUSED(gemlet_encode_sound(NULL, samples, 1, NULL, NULL, &medium, &error), GEMLET_ARGUMENT,
                "encoders is NULL");
  CHECK_REFUSED(gemlet_encode_sound(encoders, samples, 1, NULL, NULL, NULL, &error), GEMLET_ARGUMENT, "medium is NULL");
  samples[8000] = NAN;
  CHECK_REFUSED(gemlet_encode_sound(encoders, samples, sound_samples, NULL, NULL, &medium, &error), GEMLET_ARGUMENT,
                "sample 8000 is nan");
  samples[8000] = -32768;
  CHECK_REFUSED(gemlet_encode_sound(encoders, samples, sound_samples, NULL, NULL, &medium, &error), GEMLET_ARGUMENT,
                "sample 8000 is -32768");
  CHECK(medium == NULL && gemlet_medium_tokens(NULL) == 0);
  gemlet_medium_free(NULL);
}

/* A sound in pieces is the whole, whatever happened on the way. */
static void test_stream(void) {
  static float samples[sound_samples];
  static const float bad[] = {0, INFINITY};
  gemlet_encoders* encoders = load_encoders("mmproj.gguf");
  gemlet_sound* sound = NULL;
  gemlet_medium* medium = NULL;
  gemlet_medium* again = NULL;
  Progress progress = {0};
  size_t fed;
  wave(samples);
  CHECK(gemlet_sound_new(encoders, &sound, &error) == GEMLET_OK);
  CHECK_REFUSED(gemlet_sound_finish(sound, &medium, &error), GEMLET_ARGUMENT, "no samples");
  CHECK(gemlet_sound_feed(sound, NULL, 0, &error) == GEMLET_OK);
  gemlet_sound_cancel(sound); /* counts for no later call */
  for (fed = 0; fed < sound_samples; fed += 900) {
    CHECK(gemlet_sound_feed(sound, samples + fed, 900, &error) == GEMLET_OK);
    CHECK_REFUSED(gemlet_sound_feed(sound, bad, 2, &error), GEMLET_ARGUMENT, "is inf");
    CHECK_REFUSED(gemlet_sound_feed(sound, NULL, 1, &error), GEMLET_ARGUMENT, "samples is NULL");
  }
  CHECK_REFUSED(gemlet_sound_finish(sound, NULL, &error), GEMLET_ARGUMENT, "medium is NULL");
  CHECK(gemlet_sound_finish(sound, &medium, &error) == GEMLET_OK);
  CHECK(gemlet_sound_finish(sound, &again, &error) == GEMLET_OK);
  CHECK(gemlet_medium_tokens(medium) == 189 && gemlet_medium_tokens(again) == 189);
  gemlet_medium_free(again);
  CHECK_REFUSED(gemlet_sound_feed(sound, samples, 1, &error), GEMLET_ARGUMENT, "finished");
  CHECK(gemlet_encode_sound(encoders, samples, sound_samples, on_progress, &progress, &again, &error) == GEMLET_OK);
  CHECK(progress.calls == 2); /* the same content, which is held */
  gemlet_medium_free(again);
  gemlet_sound_free(sound);
  gemlet_medium_free(medium);

  CHECK(gemlet_sound_new(encoders, &sound, &error) == GEMLET_OK);
  gemlet_encoders_free(encoders); /* the sound goes on */
  CHECK(gemlet_sound_feed(sound, samples, sound_samples, &error) == GEMLET_OK);
  CHECK(gemlet_sound_finish(sound, &medium, &error) == GEMLET_OK);
  gemlet_sound_free(sound);
  CHECK(gemlet_medium_tokens(medium) == 189);
  gemlet_medium_free(medium);
}

static void test_bad_streams(const gemlet_encoders* encoders) {
  gemlet_encoders* deaf = load_encoders("deaf.gguf");
  gemlet_encoders* blind = load_encoders("blind.gguf");
  gemlet_sound* sound = (gemlet_sound*)&encoders;
  gemlet_medium* medium = NULL;
  const float sample = 0;
  uint8_t pixels[3 * width * height];
  const gemlet_picture picture = picture_of(pixels_of(0, pixels));
  CHECK_REFUSED(gemlet_sound_new(deaf, &sound, &error), GEMLET_UNSUPPORTED, "no encoder for sound");
  CHECK(sound == NULL);
  CHECK_REFUSED(gemlet_encode_sound(deaf, &sample, 1, NULL, NULL, &medium, &error), GEMLET_UNSUPPORTED, "for sound");
  CHECK_REFUSED(gemlet_encode_picture(blind, &picture, NULL, NULL, &medium, &error), GEMLET_UNSUPPORTED,
                "no encoder for pictures");
  CHECK_REFUSED(gemlet_sound_new(NULL, &sound, &error), GEMLET_ARGUMENT, "encoders is NULL");
  CHECK_REFUSED(gemlet_sound_new(encoders, NULL, &error), GEMLET_ARGUMENT, "sound is NULL");
  CHECK_REFUSED(gemlet_sound_feed(NULL, &sample, 1, &error), GEMLET_ARGUMENT, "sound is NULL");
  CHECK_REFUSED(gemlet_sound_finish(NULL, &medium, &error), GEMLET_ARGUMENT, "sound is NULL");
  gemlet_sound_cancel(NULL);
  gemlet_sound_free(NULL);
  gemlet_encoders_free(deaf);
  gemlet_encoders_free(blind);
}

typedef struct Recording {
  gemlet_sound* sound;
  atomic_int cancelled;
} Recording;

/* Feeds until the other thread cancels. */
static void* record(void* pointer) {
  static float samples[sound_samples];
  Recording* recording = pointer;
  gemlet_status status = GEMLET_OK;
  wave(samples);
  while (status != GEMLET_CANCELLED) {
    status = gemlet_sound_feed(recording->sound, samples, sound_samples, NULL);
  }
  atomic_store(&recording->cancelled, 1);
  return NULL;
}

static void test_busy_and_cancelled(const gemlet_encoders* encoders) {
  Recording recording = {.cancelled = 0};
  pthread_t thread;
  gemlet_medium* medium = NULL;
  CHECK(gemlet_sound_new(encoders, &recording.sound, &error) == GEMLET_OK);
  CHECK(pthread_create(&thread, NULL, record, &recording) == 0);
  while (gemlet_sound_feed(recording.sound, NULL, 0, &error) == GEMLET_OK) {
  }
  CHECK(error.status == GEMLET_ARGUMENT && strstr(error.message, "the sound is busy") != NULL);
  while (!atomic_load(&recording.cancelled)) gemlet_sound_cancel(recording.sound);
  pthread_join(thread, NULL);
  CHECK(gemlet_sound_finish(recording.sound, &medium, &error) == GEMLET_OK);
  CHECK(gemlet_medium_tokens(medium) > 0);
  gemlet_medium_free(medium);
  gemlet_sound_free(recording.sound);
}

/* A forked child encodes with what it inherited. */
static void test_fork(const gemlet_encoders* encoders) {
  int status = -1;
  const pid_t child = fork();
  if (child == 0) {
    gemlet_medium* medium = NULL;
    alarm(60);
    failures = 0;
    medium = encode(encoders, 5);
    CHECK(gemlet_medium_tokens(medium) == 257);
    gemlet_medium_free(medium);
    _exit(failures);
  }
  CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(int argc, char** argv) {
  gemlet_encoders* encoders;
  if (argc != 2) {
    fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  folder = argv[1];
  encoders = load_encoders("mmproj.gguf");
  test_load_encoders();
  test_info();
  test_formats(encoders);
  test_bad_pictures(encoders);
  test_progress(encoders);
  test_sounds(encoders);
  test_stream();
  test_bad_streams(encoders);
  test_busy_and_cancelled(encoders);
  test_fork(encoders);
  gemlet_encoders_free(encoders);
  return finish();
}
