#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"
#include "gemlet/media.hpp"
#include "tiny_encoders.hpp"

// The encoders through the public interface, on tiny random weights. That the numbers are right is seen in
// tests/python/encoders.
namespace {

using namespace gemlet;

std::shared_ptr<const Encoders> load(const gguf::Builder& file, int threads = 1) {
  const gguf::TemporaryDirectory directory;
  EngineOptions options;
  options.threads = threads;
  return Encoders::load(directory.write("mmproj.gguf", file.build().bytes), options);
}

std::vector<float> wave(std::size_t samples) {
  std::vector<float> out(samples);
  for (std::size_t i = 0; i < samples; ++i) {
    const auto t = static_cast<float>(i);
    out[i] = 0.4F * std::sin(t * 0.07F) * std::sin(t * 0.0003F) + 0.1F * std::sin(t * 1.3F);
  }
  return out;
}

std::vector<float> encode(const std::shared_ptr<const Encoders>& encoders, std::span<const float> samples,
                          std::size_t block) {
  SoundStream stream(encoders);
  while (samples.size() > block) {
    stream.feed(samples.first(block));
    samples = samples.subspan(block);
  }
  stream.feed(samples);
  stream.finish();
  return {stream.rows().begin(), stream.rows().end()};
}

struct Image {
  Image(std::size_t width, std::size_t height, std::size_t gap = 0)
      : pixels((3 * width + gap) * height), picture{pixels.data(), width, height, 3 * width + gap} {
    for (std::size_t y = 0; y < height; ++y) {
      for (std::size_t x = 0; x < 3 * width; ++x) {
        pixels[y * picture.stride + x] = static_cast<std::uint8_t>(x * x + 31 * y + x * y / 7);
      }
    }
  }
  std::vector<std::uint8_t> pixels;
  Picture picture;
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

TEST("a sound in pieces, on any number of threads, is the whole to the bit") {
  const auto one = load(tiny::encoders());
  const auto three = load(tiny::encoders(), 3);
  const std::vector<float> samples = wave(30001);
  const std::vector<float> whole = encode(one, samples, samples.size());
  CHECK(whole.size() == 12 * 64);
  for (const std::size_t block : {97U, 160U, 513U, 4096U}) {
    CHECK(same_bits(encode(one, samples, block), whole));
    CHECK(same_bits(encode(three, samples, block), whole));
  }
}

TEST("a cancelled sound goes on where it was") {
  const auto encoders = load(tiny::encoders());
  const std::vector<float> samples = wave(20000);
  SoundStream stream(encoders);
  const Cancel cancel(true);
  CHECK_THROWS(stream.feed(samples, &cancel), Error::Kind::cancelled, "sound");
  CHECK_THROWS(stream.finish(&cancel), Error::Kind::cancelled, "sound");
  stream.finish();
  stream.finish();  // once more changes nothing
  CHECK(same_bits({stream.rows().begin(), stream.rows().end()}, encode(encoders, samples, samples.size())));
}

TEST("a picture gives 256 tokens and a mark, the same on any number of threads and for any stride") {
  const auto one = load(tiny::encoders());
  const auto three = load(tiny::encoders(), 3);
  const Image tight(70, 90), loose(70, 90, 11);
  for (const int size : {256, 512}) {
    const std::vector<float> rows = *one->encode(tight.picture, size)->rows;
    CHECK(rows.size() == 257 * 64);
    CHECK(same_bits(rows, *three->encode(tight.picture, size)->rows));
    float last = 0;
    const auto progress = [&](float done) {
      CHECK(done >= last && done <= 1);
      last = done;
    };
    CHECK(same_bits(rows, *one->encode(loose.picture, size, nullptr, progress)->rows));
    CHECK(last == 1);
  }
}

TEST("what is held is not encoded again, and what differs in anything is another content") {
  const auto encoders = load(tiny::encoders());
  Image image(40, 30);
  const auto held = encoders->encode(image.picture, 256);
  CHECK(held->begin == "<start_of_image>" && held->end.empty() && held->count == 257);
  const Cancel cancel(true);  // nothing is computed that could be cancelled
  CHECK(encoders->encode(image.picture, 256, &cancel) == held);
  const Image loose(40, 30, 5);
  CHECK(encoders->encode(loose.picture, 256) == held);

  CHECK(encoders->encode(image.picture, 512)->content != held->content);
  const Picture other_shape{image.pixels.data(), 30, 40, 90};
  CHECK(encoders->encode(other_shape, 256)->content != held->content);
  image.pixels.back() ^= 1;
  CHECK(encoders->encode(image.picture, 256)->content != held->content);
}

TEST("a picture with alpha is the one on white, whatever pass resizes it first") {
  const auto encoders = load(tiny::encoders());
  for (const auto& size : {std::pair<std::size_t, std::size_t>{300, 40}, {40, 700}}) {
    const std::size_t width = size.first, height = size.second;  // clang captures no structured bindings
    std::vector<std::uint8_t> rgba(4 * width * height), straight, premultiplied;
    for (std::size_t i = 0; i < rgba.size(); ++i) rgba[i] = static_cast<std::uint8_t>(i * i / 7 + i);
    for (std::size_t i = 0; i < rgba.size(); ++i) {
      if (i % 4 == 3) continue;
      const double alpha = rgba[i / 4 * 4 + 3];
      straight.push_back(static_cast<std::uint8_t>(std::lround((rgba[i] * alpha + 255 * (255 - alpha)) / 255)));
      premultiplied.push_back(static_cast<std::uint8_t>(std::min(rgba[i] + 255 - alpha, 255.0)));
    }
    const auto rows = [&](const std::vector<std::uint8_t>& pixels, std::size_t channels, PixelFormat format) {
      return *encoders->encode({pixels.data(), width, height, channels * width, format}, 256)->rows;
    };
    const std::vector<float> seen = rows(rgba, 4, PixelFormat::rgba8);
    CHECK(same_bits(seen, rows(straight, 3, PixelFormat::rgb8)));
    const std::vector<float> seen_premultiplied = rows(rgba, 4, PixelFormat::rgba8_premultiplied);
    CHECK(same_bits(seen_premultiplied, rows(premultiplied, 3, PixelFormat::rgb8)));
    CHECK(!same_bits(seen, seen_premultiplied));
  }
}

TEST("a sound enters a prompt filled up to 188 tokens and a mark, however it came") {
  const auto encoders = load(tiny::encoders());
  const std::vector<float> samples = wave(30001);
  const std::vector<float> soft = encode(encoders, samples, samples.size());
  const auto whole = encoders->encode(samples);
  CHECK(whole->begin == "<start_of_audio>" && whole->end.empty() && whole->count == 189);
  const std::vector<float>& rows = *whole->rows;
  CHECK(std::equal(soft.begin(), soft.end(), rows.begin()));
  for (std::size_t row = 13; row < 188; ++row) {
    CHECK(std::equal(rows.begin() + 12 * 64, rows.begin() + 13 * 64, rows.begin() + static_cast<int>(row) * 64));
  }
  CHECK(!std::equal(rows.begin() + 187 * 64, rows.begin() + 188 * 64, rows.begin() + 188 * 64));

  SoundStream stream(encoders);
  for (std::size_t i = 0; i < samples.size(); i += 777) {
    stream.feed(std::span(samples).subspan(i, std::min<std::size_t>(777, samples.size() - i)));
  }
  CHECK_THROWS(stream.medium(), Error::Kind::argument, "not finished");
  stream.finish();
  CHECK(stream.medium()->content == whole->content && same_bits(*stream.medium()->rows, rows));
  const Cancel cancel(true);
  CHECK(encoders->encode(samples, &cancel) == whole && stream.medium() == whole);

  float last = 0;
  const std::vector<float> longer = wave(16000 * 31);
  const auto much = encoders->encode(longer, nullptr, [&](float done) {
    CHECK(done > last && done <= 1);
    last = done;
  });
  CHECK(last == 1 && much->count == 195 && much->content != whole->content);
}

TEST("a picture is refused that is none, and encoding it can be cancelled") {
  const auto encoders = load(tiny::encoders());
  const Image image(20, 20);
  const Cancel cancel(true);
  CHECK_THROWS(encoders->encode(image.picture, 256, &cancel), Error::Kind::cancelled, "picture");
  CHECK_THROWS(encoders->encode(image.picture, 300), Error::Kind::argument, "size is 300");
  CHECK_THROWS(encoders->encode({image.pixels.data(), 0, 20, 60}, 256), Error::Kind::argument, "0 x 20");
  CHECK_THROWS(encoders->encode({image.pixels.data(), 20, 20, 59}, 256), Error::Kind::argument, "59 bytes");
  CHECK_THROWS(encoders->encode({image.pixels.data(), 20, 15, 79, PixelFormat::rgba8}, 256), Error::Kind::argument,
               "20 pixels of 4 bytes");
  CHECK_THROWS(encoders->encode({image.pixels.data(), 20, 20, std::size_t{0} - 60}, 256), Error::Kind::argument,
               "rows of");
  CHECK_THROWS(encoders->encode({image.pixels.data(), 1U << 30U, 1, 1U << 31U}, 256), Error::Kind::argument, "pixels");
}

TEST("encoders apart: what is not there is refused by name") {
  gguf::Builder eyes, ears, neither;
  for (gguf::Builder* file : {&eyes, &ears, &neither}) file->add_string("general.architecture", "clip");
  tiny::add_vision_encoder(eyes);
  tiny::add_audio_encoder(ears);
  const auto sees = load(eyes);
  const auto hears = load(ears);
  CHECK(sees->sees() && !sees->hears() && sees->hidden_size() == 64);
  CHECK(hears->hears() && !hears->sees() && hears->hidden_size() == 64);
  CHECK_THROWS(SoundStream(sees), Error::Kind::unsupported, "no encoder for sound");
  CHECK_THROWS(hears->encode(Image(9, 9).picture), Error::Kind::unsupported, "no encoder for pictures");
  CHECK_THROWS(load(neither), Error::Kind::unsupported, "holds no encoder");
  gguf::Builder mixed = eyes;
  tiny::add_audio_encoder(mixed, 32);
  CHECK_THROWS(load(mixed), Error::Kind::format, "hidden sizes of 64 and 32");
}

TEST("a tensor that is missing, of another shape or not finite is named") {
  const gguf::Builder whole = tiny::encoders();
  for (std::size_t i = 0; i < whole.tensors.size(); ++i) {
    const std::string name = whole.tensors[i].name;
    gguf::Builder file = whole;
    file.tensors.erase(file.tensors.begin() + static_cast<std::ptrdiff_t>(i));
    std::string message;
    try {
      (void)load(file);
      message = "loaded";
    } catch (const Error& error) {
      message = error.what();
    }
    // A bias, and convolutions that some blocks lack, may be missing; the rest of a block shows that it should be
    // there.
    const bool optional = name.find("conv.bias") != std::string::npos || name.find("dw_") != std::string::npos ||
                          name.find("down_conv") != std::string::npos;
    check::that(optional || message != "loaded", name + ": loaded without it");
    file = whole;
    file.tensors[i].dims[0] += 1;
    file.tensors[i].data += std::string(file.tensors[i].data.size(), '\0');
    CHECK_THROWS(load(file), Error::Kind::format, "expected");
    if (whole.tensors[i].dims.size() == 1) {
      file = whole;
      const float bad = NAN;
      std::memcpy(file.tensors[i].data.data(), &bad, sizeof(bad));
      CHECK_THROWS(load(file), Error::Kind::format, name);
    }
  }
}

TEST("a block that halves the map where none should, or does not where one should, is named") {
  gguf::Builder file = tiny::encoders();
  tiny::EncoderWriter add(file);
  add.weights("v.blk.1.1.dw_mid.conv", {12, 1, 3, 3});
  add.norm("v.blk.1.1.dw_mid.bn", 12);
  CHECK_THROWS(load(file), Error::Kind::format, "v.blk.1.1.* halves the size");
  file = tiny::encoders();
  std::erase_if(file.tensors, [](const gguf::TensorSpec& t) { return t.name.starts_with("v.blk.2.0.dw_mid"); });
  CHECK_THROWS(load(file), Error::Kind::format, "v.blk.2.0.* keeps the size");
}

TEST("a small file that asks for gigabytes is refused") {
  gguf::Builder file = tiny::encoders();
  const auto replace = [&](const char* name, std::vector<std::uint64_t> dims) {
    gguf::TensorSpec& tensor = file.tensor(name);
    std::uint64_t count = 1;
    for (const std::uint64_t n : dims) count *= n;
    tensor.dims = std::move(dims);
    tensor.data = std::string(count * sizeof(float), '\0');
  };
  replace("v.conv_stem.conv.weight", {3, 3, 3, 8000});
  replace("v.conv_stem.bn.weight", {8000});
  replace("v.conv_stem.conv.bias", {8000});
  CHECK_THROWS(load(file), Error::Kind::format,
               "the stem of the vision encoder has 8000 channels, expected at most 455");
  file = tiny::encoders();
  replace("a.conv1d.0.weight", {3, 3, 1, 600});
  CHECK_THROWS(load(file), Error::Kind::format, "expected 1 to 512");
}

TEST("weights that are not numbers give an error and no soft tokens") {
  gguf::Builder file = tiny::encoders();
  const float bad = NAN;
  for (const char* name : {"v.msfa.ffn.pw_proj.conv.weight", "a.pre_encode.out.weight"}) {
    std::memcpy(file.tensor(name).data.data(), &bad, sizeof(bad));
  }
  const auto encoders = load(file);
  CHECK_THROWS(encoders->encode(Image(9, 9).picture, 256), Error::Kind::format, "values that are not numbers");
  SoundStream stream(encoders);
  CHECK_THROWS(stream.feed(wave(9000)), Error::Kind::format, "values that are not numbers");
}

int main() { return check::run_tests(); }
