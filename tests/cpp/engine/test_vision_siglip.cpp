#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.hpp"
#include "gemlet/media.hpp"
#include "tiny_encoders.hpp"

// Gemma 3's vision encoder through the public interface, on tiny random weights. That the numbers are right is seen in
// tests/python/encoders.
namespace {

using namespace gemlet;

constexpr int size = 24;

gguf::Builder siglip() {
  gguf::Builder file;
  file.add_string("general.architecture", "clip");
  tiny::add_siglip_encoder(file);
  return file;
}

std::shared_ptr<const Encoders> load(const gguf::Builder& file, int threads = 1) {
  const gguf::TemporaryDirectory directory;
  EngineOptions options;
  options.threads = threads;
  return Encoders::load(directory.write("mmproj.gguf", file.build().bytes), options);
}

void set(gguf::Builder& file, const char* key, std::uint32_t value) { file.pair(key).payload = gguf::to_bytes(value); }

struct Image {
  Image() : pixels(3 * 30 * 20), picture{pixels.data(), 30, 20, 90} {
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * i + 31 * (i / 90));
  }
  std::vector<std::uint8_t> pixels;
  Picture picture;
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

TEST("a picture gives its soft tokens, the same on any number of threads") {
  const auto one = load(siglip());
  const auto three = load(siglip(), 3);
  CHECK(one->sees() && !one->hears() && one->hidden_size() == 64);
  const Image image;
  float last = 0;
  const auto progress = [&](float done) {
    CHECK(done >= last && done <= 1);
    last = done;
  };
  const auto medium = one->encode(image.picture, 0, nullptr, progress);
  CHECK(last == 1);
  CHECK(medium->begin == "<start_of_image>" && medium->end == "<end_of_image>" && medium->count == 4);
  CHECK(medium->rows->size() == 4 * 64);
  CHECK(same_bits(*medium->rows, *three->encode(image.picture, size)->rows));
  CHECK_THROWS(one->encode(image.picture, 896), Error::Kind::argument, "size is 896, expected 24");
}

TEST("encoding a picture can be cancelled in every block") {
  const auto encoders = load(siglip());
  const Image image;
  for (int stop = 0; stop < 2; ++stop) {
    Cancel cancel(false);
    int steps = 0;
    const auto progress = [&](float) { cancel.store(steps++ == stop); };
    CHECK_THROWS(encoders->encode(image.picture, size, &cancel, progress), Error::Kind::cancelled, "picture");
    CHECK(steps == stop + 1);
  }
}

TEST("a tensor that is missing, of another shape or not finite is named") {
  const gguf::Builder whole = siglip();
  for (std::size_t i = 0; i < whole.tensors.size(); ++i) {
    const std::string name = whole.tensors[i].name;
    gguf::Builder file = whole;
    file.tensors.erase(file.tensors.begin() + static_cast<std::ptrdiff_t>(i));
    CHECK_THROWS(load(file), Error::Kind::format, name);
    file = whole;
    file.tensors[i].dims[0] += 1;
    const std::size_t grown = file.tensors[i].data.size() / whole.tensors[i].dims[0] * file.tensors[i].dims[0];
    file.tensors[i].data.resize(grown);
    const bool hidden = name == "mm.input_projection.weight";  // which may be of any size
    if (hidden) {
      CHECK(load(file)->hidden_size() == 65);
    } else {
      CHECK_THROWS(load(file), Error::Kind::format, "expected");
    }
    if (whole.tensors[i].dims.size() == 1) {
      file = whole;
      const float bad = NAN;
      std::memcpy(file.tensors[i].data.data(), &bad, sizeof(bad));
      CHECK_THROWS(load(file), Error::Kind::format, name);
    }
  }
}

TEST("sizes that do not belong together are named") {
  const auto refused = [](const char* key, std::uint32_t value, const char* message) {
    gguf::Builder file = siglip();
    set(file, key, value);
    CHECK_THROWS(load(file), Error::Kind::format, message);
  };
  refused("clip.vision.image_size", 25, "clip.vision.image_size is 25, expected a multiple of 12");
  refused("clip.vision.image_size", 36, "v.position_embd.weight");
  refused("clip.vision.image_size", 0, "clip.vision.image_size");
  refused("clip.vision.image_size", 4096, "clip.vision.image_size");
  refused("clip.vision.patch_size", 25, "clip.vision.patch_size");
  refused("clip.vision.patch_size", 2, "v.patch_embd.weight");
  refused("clip.vision.projector.scale_factor", 7, "clip.vision.projector.scale_factor");
  refused("clip.vision.projector.scale_factor", 4, "expected a multiple of 16");
  refused("clip.vision.attention.head_count", 3, "clip.vision.attention.head_count is 3, expected a divisor");
  refused("clip.vision.attention.head_count", 0, "clip.vision.attention.head_count");
  refused("clip.vision.block_count", 0, "clip.vision.block_count");
  refused("clip.vision.block_count", 1, "v.blk.1.ln1.weight is there, but clip.vision.block_count is 1");
  refused("clip.vision.block_count", 3, "v.blk.2.ln1.weight is missing");
  gguf::Builder file = siglip();
  file.pair("clip.vision.image_std").payload.replace(0, sizeof(float), gguf::to_bytes(0.0F));
  CHECK_THROWS(load(file), Error::Kind::format, "clip.vision.image_std has 0");
  file = siglip();
  file.pair("clip.projector_type").payload = "ldp";
  CHECK_THROWS(load(file), Error::Kind::unsupported, "projector_type is \"ldp\"");
}

TEST("a small file that asks for gigabytes is refused") {
  gguf::Builder file = siglip();
  set(file, "clip.vision.image_size", 504);
  CHECK_THROWS(load(file), Error::Kind::format, "v.position_embd.weight");  // which has a row for each patch
  set(file, "clip.vision.patch_size", 1);
  CHECK_THROWS(load(file), Error::Kind::format, "image_size / clip.vision.patch_size is 504, expected 1 to 128");
  file = siglip();
  gguf::TensorSpec& patches = file.tensor("v.patch_embd.weight");
  patches.dims = {1, 1, 3, 4096};
  patches.data = std::string(3 * 4096 * sizeof(float), '\0');
  set(file, "clip.vision.patch_size", 1);
  set(file, "clip.vision.image_size", 126);
  CHECK_THROWS(load(file), Error::Kind::format, "the width of v.patch_embd.weight is 65028096");
}

TEST("weights that are not numbers give an error and no soft tokens") {
  gguf::Builder file = siglip();
  const float bad = NAN;
  std::memcpy(file.tensor("v.blk.1.attn_k.weight").data.data(), &bad, sizeof(bad));
  const auto encoders = load(file);
  CHECK_THROWS(encoders->encode(Image().picture, size), Error::Kind::format, "values that are not numbers");
}

int main() { return check::run_tests(); }
