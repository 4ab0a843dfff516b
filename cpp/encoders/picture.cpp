#include "encoders/picture.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "encoders/cancel.hpp"

namespace gemlet {
namespace {

constexpr std::size_t channels = 3;
constexpr std::size_t most_pixels = std::size_t{1} << 16;
constexpr int precision_bits = 32 - 8 - 2;

/// The weights of one axis: output i is the sum of taps[i].weights times the inputs from taps[i].first on.
struct Taps {
  std::size_t first = 0;
  std::vector<std::int32_t> weights;
};

std::vector<Taps> make_taps(std::size_t in, std::size_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double filter_scale = std::max(scale, 1.0);  // anti-aliasing: the triangle is as wide as a step
  std::vector<Taps> all(out);
  for (std::size_t i = 0; i < out; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const auto first = static_cast<std::size_t>(std::max(centre - filter_scale + 0.5, 0.0));
    const std::size_t end = std::min(static_cast<std::size_t>(centre + filter_scale + 0.5), in);
    std::vector<double> weights;
    double sum = 0;
    for (std::size_t x = first; x < end; ++x) {
      const double distance = std::fabs((static_cast<double>(x) - centre + 0.5) * (1.0 / filter_scale));
      weights.push_back(std::max(1.0 - distance, 0.0));
      sum += weights.back();
    }
    all[i].first = first;
    for (const double weight : weights) {
      all[i].weights.push_back(static_cast<std::int32_t>(0.5 + weight / sum * (1 << precision_bits)));
    }
  }
  return all;
}

std::uint8_t round_to_byte(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> precision_bits, 0, 255));
}

void check_size(std::size_t width, std::size_t height) {
  if (width == 0 || height == 0 || width > most_pixels || height > most_pixels) {
    throw Error(Error::Kind::argument, "a picture of " + std::to_string(width) + " x " + std::to_string(height) +
                                           " pixels: expected 1 to " + std::to_string(most_pixels) + " each way");
  }
}

std::uint8_t on_white(std::uint32_t colour, std::uint32_t alpha, PixelFormat format) {
  if (format == PixelFormat::rgba8)
    return static_cast<std::uint8_t>((colour * alpha + 255 * (255 - alpha) + 127) / 255);
  return static_cast<std::uint8_t>(std::min(colour + 255 - alpha, 255U));
}

std::vector<std::uint8_t> resize_rows(const Picture& in, std::size_t width, const Cancel* cancel) {
  const std::vector<Taps> taps = make_taps(in.width, width);
  RgbRows rows(in);
  std::vector<std::uint8_t> out(in.height * width * channels);
  for (std::size_t y = 0; y < in.height; ++y) {
    check_cancelled(cancel, "the picture");
    const std::uint8_t* row = rows.row(y);
    for (std::size_t x = 0; x < width; ++x) {
      const Taps& tap = taps[x];
      const std::uint8_t* from = row + tap.first * channels;
      std::int32_t sums[channels] = {1 << (precision_bits - 1), 1 << (precision_bits - 1), 1 << (precision_bits - 1)};
      for (const std::int32_t weight : tap.weights) {
        for (std::size_t c = 0; c < channels; ++c) sums[c] += *from++ * weight;
      }
      for (std::size_t c = 0; c < channels; ++c) out[(y * width + x) * channels + c] = round_to_byte(sums[c]);
    }
  }
  return out;
}

std::vector<std::uint8_t> resize_columns(const Picture& in, std::size_t height, const Cancel* cancel) {
  const std::vector<Taps> taps = make_taps(in.height, height);
  const std::size_t row = in.width * channels;
  RgbRows rows(in);
  std::vector<std::uint8_t> out(height * row);
  std::vector<std::int32_t> sums(row);
  for (std::size_t y = 0; y < height; ++y) {
    check_cancelled(cancel, "the picture");
    std::fill(sums.begin(), sums.end(), 1 << (precision_bits - 1));
    for (std::size_t i = 0; i < taps[y].weights.size(); ++i) {
      const std::uint8_t* from = rows.row(taps[y].first + i);
      const std::int32_t weight = taps[y].weights[i];
      for (std::size_t x = 0; x < row; ++x) sums[x] += from[x] * weight;
    }
    for (std::size_t x = 0; x < row; ++x) out[y * row + x] = round_to_byte(sums[x]);
  }
  return out;
}

}  // namespace

std::size_t bytes_per_pixel(PixelFormat format) { return format == PixelFormat::rgb8 ? 3 : 4; }

void check_picture(const Picture& picture) {
  check_size(picture.width, picture.height);
  if (picture.pixels == nullptr) throw Error(Error::Kind::argument, "the picture's pixels are null");
  const std::size_t pixel = bytes_per_pixel(picture.format);
  const std::size_t most = std::numeric_limits<std::ptrdiff_t>::max() / picture.height;
  if (picture.stride < pixel * picture.width || picture.stride > most) {
    throw Error(Error::Kind::argument, "rows of " + std::to_string(picture.stride) + " bytes for a picture of " +
                                           std::to_string(picture.width) + " pixels of " + std::to_string(pixel) +
                                           " bytes: expected " + std::to_string(pixel * picture.width) + " to " +
                                           std::to_string(most));
  }
}

const std::uint8_t* RgbRows::row(std::size_t y) {
  const std::uint8_t* from = picture_.pixels + y * picture_.stride;
  if (picture_.format == PixelFormat::rgb8) return from;
  converted_.resize(channels * picture_.width);
  for (std::size_t x = 0; x < picture_.width; ++x, from += channels + 1) {
    for (std::size_t c = 0; c < channels; ++c) {
      converted_[channels * x + c] = on_white(from[c], from[channels], picture_.format);
    }
  }
  return converted_.data();
}

std::vector<std::uint8_t> resize(const Picture& picture, std::size_t width, std::size_t height, const Cancel* cancel) {
  check_picture(picture);
  check_size(width, height);
  const auto view = [](const std::vector<std::uint8_t>& bytes, std::size_t w, std::size_t h) {
    return Picture{bytes.data(), w, h, w * channels, PixelFormat::rgb8};
  };
  // As Pillow has done since version 13: the pass that leaves less for the other, roughly.
  const bool columns_first =
      picture.height > height && (picture.width <= width || picture.height - height > 2 * (picture.width - width));
  if (columns_first)
    return resize_rows(view(resize_columns(picture, height, cancel), picture.width, height), width, cancel);
  return resize_columns(view(resize_rows(picture, width, cancel), width, picture.height), height, cancel);
}

FeatureMap to_feature_map(std::span<const std::uint8_t> pixels, std::size_t size, const PixelScale& scale) {
  FeatureMap out(size, size, channels);
  for (std::size_t i = 0; i < out.values.size(); ++i) {
    const std::size_t c = i % channels;
    out.values[i] = (static_cast<float>(pixels[i]) / 255.0F - scale.mean[c]) / scale.deviation[c];
  }
  return out;
}

}  // namespace gemlet
