#include "encoders/vision_mobilenet_v5.hpp"

#include <cmath>
#include <string>
#include <utility>

#include "encoders/cancel.hpp"
#include "encoders/picture.hpp"
#include "encoders/vision_blocks.hpp"
#include "gemlet/error.hpp"

namespace gemlet {
namespace {

constexpr std::size_t end_mark = 0;  // of the hard tokens
constexpr std::size_t map_size = 16;
constexpr std::size_t tokens = map_size * map_size;
// Of a picture: a map of 16 x 16 must remain, or two or three as wide.
constexpr std::size_t size_step = 256;
constexpr std::size_t max_size = 768;

}  // namespace

bool VisionMobileNetV5::is_in(const GgufFile& file) { return has_tensors(file, {"v.conv_stem.", "v.msfa."}); }

VisionMobileNetV5::VisionMobileNetV5(const GgufFile& file)
    : weights_(read_vision_weights(Reader(file, "clip.vision"))),
      soft_tokens_(Reader(file, "clip.vision"), "mm.", weights_.width()) {
  // The stem halves a picture, and so does each stage: the last but one must leave the adapter a whole map.
  const std::size_t stages = weights_.stages.size();
  static_assert(size_step >> 4 == map_size);
  if (stages != 4) {
    throw Error(Error::Kind::unsupported, file.parts().front().file.path().string() + ": the vision encoder has " +
                                              std::to_string(stages) + " stages, expected 4");
  }
  const Reader vision(file, "clip.vision");
  shape_.default_size = vision.size("image_size", size_step, max_size, max_size);
  if (shape_.default_size % size_step != 0) {
    vision.fail("clip.vision.image_size is " + std::to_string(shape_.default_size) + ", expected a multiple of " +
                std::to_string(size_step));
  }
  for (std::size_t size = size_step; size <= max_size; size += size_step) shape_.sizes.push_back(size);
  shape_.hidden_size = soft_tokens_.hidden_size();
  shape_.rows = tokens + 1;
  shape_.begin = "<start_of_image>";
}

std::vector<float> VisionMobileNetV5::run(std::span<const std::uint8_t> pixels, std::size_t size, Compute& compute,
                                          const Cancel* cancel, const std::function<void(float)>& progress) const {
  VisionBlocks tower(compute, cancel);
  std::size_t blocks = 2;
  for (const auto& stage : weights_.stages) blocks += stage.size();
  std::size_t done = 0;
  const auto step = [&] {
    check_cancelled(cancel, "the picture");
    if (progress) progress(static_cast<float>(done) / static_cast<float>(blocks));
    ++done;
  };

  step();
  FeatureMap map = tower.stem(weights_.stem, weights_.stem_bias, to_feature_map(pixels, size));
  FeatureMap fine(0, 0, 0);
  for (std::size_t stage = 0; stage < weights_.stages.size(); ++stage) {
    for (std::size_t i = 0; i < weights_.stages[stage].size(); ++i) {
      step();
      map = tower.run(weights_.stages[stage][i], std::move(map), i == 0);
    }
    if (stage + 2 == weights_.stages.size()) fine = map;
  }
  step();
  FeatureMap fused = tower.fuse(weights_, fine, map, map_size);
  const float scale = std::sqrt(static_cast<float>(weights_.width()));
  compute.each_token(tokens, [&](std::size_t t) {
    compute.kernels().scale(scale, fused.values.data() + t * weights_.width(), weights_.width());
  });
  std::vector<float> out(tokens * soft_tokens_.hidden_size());
  soft_tokens_.project(fused.values.data(), tokens, out.data(), compute);
  soft_tokens_.append_hard(end_mark, compute, out);
  if (progress) progress(1);
  return out;
}

}  // namespace gemlet
