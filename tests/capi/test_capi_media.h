/* What the tests of pictures and sounds share: files of write_tiny_media, pixels and samples. */
#ifndef TEST_CAPI_MEDIA_H
#define TEST_CAPI_MEDIA_H

#include <math.h>

#include "test_capi.h"

enum { width = 20, height = 12, sound_samples = 9000 };

static const char* folder;

static inline const char* file_in_folder(const char* name) {
  static char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static inline gemlet_encoders* load_encoders(const char* name) {
  gemlet_engine_options options = {.struct_size = sizeof(options), .threads = 2};
  gemlet_encoders* encoders = NULL;
  CHECK(gemlet_encoders_load(file_in_folder(name), &options, &encoders, &error) == GEMLET_OK);
  if (encoders == NULL) {
    printf("cannot go on: %s\n", error.message);
    exit(1);
  }
  return encoders;
}

/* Pictures of different kinds differ. */
static inline const uint8_t* pixels_of(int kind, uint8_t* pixels) {
  int i;
  for (i = 0; i < 3 * width * height; ++i) pixels[i] = (uint8_t)(i * (7 + kind) + i * i / 30);
  return pixels;
}

static inline const float* wave(float* samples) {
  int i;
  for (i = 0; i < sound_samples; ++i) samples[i] = 0.4F * sinf(0.07F * (float)i) + 0.1F * sinf(1.3F * (float)i);
  return samples;
}

static inline gemlet_picture picture_of(const uint8_t* pixels) {
  gemlet_picture picture = {.struct_size = sizeof(picture), .pixels = pixels, .width = width, .height = height};
  picture.size = 256;
  return picture;
}

static inline gemlet_medium* encode(const gemlet_encoders* encoders, int kind) {
  uint8_t pixels[3 * width * height];
  const gemlet_picture picture = picture_of(pixels_of(kind, pixels));
  gemlet_medium* medium = NULL;
  CHECK(gemlet_encode_picture(encoders, &picture, NULL, NULL, &medium, &error) == GEMLET_OK);
  return medium;
}

#endif
