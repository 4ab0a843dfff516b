#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "tiny_encoders.hpp"
#include "tiny_gemma3n.hpp"

// Writes what programs need that show pictures and sounds to a tiny model: write_tiny_media FOLDER
namespace {

std::string little_endian(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 255);
  return out;
}

/// 40 x 30 pixels.
std::string picture() {
  std::string out = "P6\n# a picture\n40 30\n255\n";
  for (int i = 0; i < 40 * 30 * 3; ++i) out += static_cast<char>(i * 7 + i * i / 40);
  return out;
}

/// Half a second of 16 bits a sample.
std::string sound() {
  std::string samples;
  for (int i = 0; i < 8000; ++i) {
    samples += little_endian(static_cast<std::uint64_t>(std::lround(9000 * std::sin(i * 0.07))), 2);
  }
  const std::string format = little_endian(1, 2) + little_endian(1, 2) + little_endian(16000, 4) +
                             little_endian(32000, 4) + little_endian(2, 2) + little_endian(16, 2);
  const std::string chunks = "WAVEfmt " + little_endian(format.size(), 4) + format + "LIST" + little_endian(3, 4) +
                             std::string("abc\0", 4) + "data" + little_endian(samples.size(), 4) + samples;
  return "RIFF" + little_endian(chunks.size(), 4) + chunks;
}

gguf::Builder empty_encoders() {
  gguf::Builder file;
  file.add_string("general.architecture", "clip");
  return file;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  std::filesystem::create_directories(folder);
  bool good = true;
  const auto write = [&](const char* name, const std::string& bytes) {
    std::ofstream file(folder / name, std::ios::binary);
    file << bytes;
    file.close();
    good = good && file;
  };
  tiny::Shape shape;
  shape.context = 2048;
  shape.media = true;
  gguf::Builder blind = empty_encoders(), deaf = empty_encoders(), of_another_model = empty_encoders();
  tiny::add_audio_encoder(blind);
  tiny::add_vision_encoder(deaf);
  tiny::add_audio_encoder(of_another_model, 32);
  write("model.gguf", tiny::gemma3n(shape).build().bytes);
  write("text.gguf", tiny::gemma3n().build().bytes);
  write("mmproj.gguf", tiny::encoders().build().bytes);
  write("blind.gguf", blind.build().bytes);
  write("deaf.gguf", deaf.build().bytes);
  write("of_another_model.gguf", of_another_model.build().bytes);
  write("picture.ppm", picture());
  write("sound.wav", sound());
  return good ? 0 : 1;
}
