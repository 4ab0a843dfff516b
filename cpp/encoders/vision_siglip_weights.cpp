#include "encoders/vision_siglip_weights.hpp"

#include <algorithm>
#include <array>
#include <string>

namespace gemlet {
namespace {

// Published: 896 pixels, patches of 14, a width of 1152, 4304 in the feed-forward layers, 27 blocks.
constexpr std::size_t max_image = 2048;
constexpr std::size_t max_side = 128;  // patches
constexpr std::size_t max_width = std::size_t{1} << 13;
constexpr std::size_t max_ffn = std::size_t{1} << 15;
constexpr std::size_t max_blocks = 1024;
constexpr std::size_t max_state = std::size_t{1} << 24;  // floats; published: 4.7 million
constexpr std::size_t default_pool = 4;

std::string block_name(std::size_t block, const char* part) { return "v.blk." + std::to_string(block) + "." + part; }

LayerNormWeights read_norm(const Reader& read, const std::string& name, std::size_t width) {
  return {read.floats(name + ".weight", {width}), read.floats(name + ".bias", {width})};
}

BiasedMatrix read_biased(const Reader& read, const std::string& name, std::size_t rows, std::size_t cols) {
  return {read.matrix(name + ".weight", rows, cols), read.floats(name + ".bias", {rows})};
}

std::array<float, 3> read_colours(const Reader& read, const char* key) {
  const std::vector<float> stored = read.numbers(key, 3);
  return {stored[0], stored[1], stored[2]};
}

/// The sizes of the picture, its patches and its soft tokens, which must be whole multiples of one another.
void read_sizes(const Reader& read, SiglipWeights& w) {
  w.image_size = read.size("image_size", 1, max_image);
  w.patch_size = read.size("patch_size", 1, w.image_size);
  read.bounded("clip.vision.image_size / clip.vision.patch_size", w.side(), 1, max_side);
  w.pool = read.size("projector.scale_factor", 1, w.side(), std::min(default_pool, w.side()));
  const std::size_t step = w.patch_size * w.pool;
  if (w.image_size % step != 0) {
    read.fail("clip.vision.image_size is " + std::to_string(w.image_size) + ", expected a multiple of " +
              std::to_string(step) + ": patches of " + std::to_string(w.patch_size) + " pixels, " +
              std::to_string(w.pool) + " x " + std::to_string(w.pool) + " to a soft token");
  }
}

SiglipBlockWeights read_block(const Reader& read, std::size_t block, std::size_t width, std::size_t ffn) {
  const auto name = [&](const char* part) { return block_name(block, part); };
  SiglipBlockWeights w;
  w.layer_norm1 = read_norm(read, name("ln1"), width);
  w.q_proj = read_biased(read, name("attn_q"), width, width);
  w.k_proj = read_biased(read, name("attn_k"), width, width);
  w.v_proj = read_biased(read, name("attn_v"), width, width);
  w.out_proj = read_biased(read, name("attn_out"), width, width);
  w.layer_norm2 = read_norm(read, name("ln2"), width);
  // [ffn, width] is what widens, whatever its name.
  const std::string down = name("ffn_down");
  const bool swapped = width != ffn && read.dimension(down + ".weight", 2, 1, 1, max_ffn) == width;
  w.fc1 = read_biased(read, swapped ? down : name("ffn_up"), ffn, width);
  w.fc2 = read_biased(read, swapped ? name("ffn_up") : down, width, ffn);
  return w;
}

}  // namespace

SiglipWeights read_siglip_weights(const Reader& read) {
  SiglipWeights w;
  read_sizes(read, w);
  w.norm_eps = read.positive("attention.layer_norm_epsilon", 1e-6F);
  w.pixels.mean = read_colours(read, "image_mean");
  w.pixels.deviation = read_colours(read, "image_std");
  for (const float deviation : w.pixels.deviation) {
    if (!(deviation > 0)) {
      read.fail("clip.vision.image_std has " + std::to_string(deviation) + ", expected positive numbers");
    }
  }

  const std::string patches = "v.patch_embd.weight";
  const std::size_t width = read.dimension(patches, 4, 0, 1, max_width);
  const std::size_t positions = w.side() * w.side();
  read.bounded("patches of the picture x the width of v.patch_embd.weight", positions * width, 1, max_state);
  const Tensor& kernel = read.tensor(patches, {width, 3, w.patch_size, w.patch_size});
  w.patch_embedding.matrix = Matrix::packed(kernel.data, kernel.type, width, 3 * w.patch_size * w.patch_size);
  w.patch_embedding.bias = read.floats("v.patch_embd.bias", {width});
  w.position_embedding = read.matrix("v.position_embd.weight", positions, width);

  w.heads = read.size("attention.head_count", 1, width);
  if (width % w.heads != 0) {
    read.fail("clip.vision.attention.head_count is " + std::to_string(w.heads) +
              ", expected a divisor of the encoder's width of " + std::to_string(width));
  }
  const std::size_t blocks = read.size("block_count", 1, max_blocks);
  // One side of ffn_up is the encoder's width, and which one is told block by block.
  const std::string up = block_name(0, "ffn_up.weight");
  const std::size_t rows = read.dimension(up, 2, 0, 1, max_ffn);
  const std::size_t ffn = rows == width ? read.dimension(up, 2, 1, 1, max_ffn) : rows;
  for (std::size_t i = 0; i < blocks; ++i) w.blocks.push_back(read_block(read, i, width, ffn));
  if (const std::string next = block_name(blocks, "ln1.weight"); read.has(next)) {
    read.fail("tensor " + next + " is there, but clip.vision.block_count is " + std::to_string(blocks));
  }
  w.post_layernorm = read_norm(read, "v.post_ln", width);
  w.soft_norm = read.floats("mm.soft_emb_norm.weight", {width});
  const std::string projection = "mm.input_projection.weight";
  w.projection = read.matrix(projection, width, read.dimension(projection, 2, 1, 1, std::size_t{1} << 16));
  return w;
}

}  // namespace gemlet
