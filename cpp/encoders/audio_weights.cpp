#include "encoders/audio_weights.hpp"

#include <string>

namespace gemlet {
namespace {

constexpr std::size_t max_width = std::size_t{1} << 14;  // published: 6144
constexpr std::size_t max_channels = 512;                // published: 128
constexpr std::size_t conv_size = 3;

std::string conv_name(std::size_t i, const char* part) { return "a.conv1d." + std::to_string(i) + part + ".weight"; }
std::string block_name(std::size_t block, const char* part) {
  return "a.blk." + std::to_string(block) + "." + part + ".weight";
}

AudioShape read_shape(const Reader& read) {
  AudioShape shape;
  shape.mel_bins = read.size("num_mel_bins", 8, 512);
  for (std::size_t i = 0; i < 2; ++i) shape.conv_channels[i] = read.dimension(conv_name(i, ""), 4, 0, 1, max_channels);
  shape.width = read.dimension("a.pre_encode.out.weight", 2, 0, 2, max_width);
  shape.head_dim = read.dimension("a.blk.0.per_dim_scale.weight", 1, 0, 1, shape.width);
  if (shape.width % shape.head_dim != 0) {
    read.fail("a.blk.0.per_dim_scale.weight has " + std::to_string(shape.head_dim) +
              " values, expected a divisor of the encoder's width of " + std::to_string(shape.width));
  }
  shape.heads = shape.width / shape.head_dim;
  shape.ffn = read.dimension(block_name(0, "ffn_up"), 2, 0, 1, max_width);
  shape.kernel = read.dimension(block_name(0, "conv_dw"), 3, 2, 1, 64);
  return shape;
}

AudioFeedForwardWeights read_feed_forward(const Reader& read, const AudioShape& shape, std::size_t block,
                                          const char* suffix) {
  const auto name = [&](const char* part) { return block_name(block, (std::string(part) + suffix).c_str()); };
  AudioFeedForwardWeights w;
  w.pre_layer_norm = read.floats(name("ffn_norm"), {shape.width});
  w.ffw_layer_1 = read.matrix(name("ffn_up"), shape.ffn, shape.width);
  w.ffw_layer_2 = read.matrix(name("ffn_down"), shape.width, shape.ffn);
  w.post_layer_norm = read.floats(name("ffn_post_norm"), {shape.width});
  return w;
}

AudioBlockWeights read_block(const Reader& read, const AudioShape& shape, std::size_t block) {
  const auto name = [&](const char* part) { return block_name(block, part); };
  const std::size_t width = shape.width;
  AudioBlockWeights w;
  w.ffw_layer_start = read_feed_forward(read, shape, block, "");
  w.pre_attn_norm = read.floats(name("ln1"), {width});
  w.q_proj = read.matrix(name("attn_q"), width, width);
  w.k_proj = read.matrix(name("attn_k"), width, width);
  w.v_proj = read.matrix(name("attn_v"), width, width);
  w.post = read.matrix(name("attn_out"), width, width);
  w.pos_proj = read.matrix(name("linear_pos"), width, width);
  w.per_dim_scale = read.floats(name("per_dim_scale"), {shape.head_dim});
  w.post_norm = read.floats(name("ln2"), {width});
  // llama.cpp swaps the names: "conv_norm" stands before the light convolution, "norm_conv" inside of it.
  w.lconv_pre_norm = read.floats(name("conv_norm"), {width});
  w.linear_start = read.matrix(name("conv_pw1"), 2 * width, width);
  const std::vector<float> depthwise = read.floats(name("conv_dw"), {width, 1, shape.kernel});
  w.depthwise.resize(depthwise.size());
  for (std::size_t c = 0; c < width; ++c) {
    for (std::size_t k = 0; k < shape.kernel; ++k) w.depthwise[k * width + c] = depthwise[c * shape.kernel + k];
  }
  w.conv_norm = read.floats(name("norm_conv"), {width});
  w.linear_end = read.matrix(name("conv_pw2"), width, width);
  w.ffw_layer_end = read_feed_forward(read, shape, block, "_1");
  w.norm = read.floats(name("layer_pre_norm"), {width});
  return w;
}

}  // namespace

AudioWeights read_audio_weights(const Reader& read) {
  AudioWeights w;
  w.shape = read_shape(read);
  const AudioShape& shape = w.shape;
  std::size_t inputs = 1;
  for (std::size_t i = 0; i < 2; ++i) {
    const std::size_t outputs = shape.conv_channels[i];
    // Rows of three: whole blocks of types without blocks alone, so that the kernels of a channel lie side by side.
    const Tensor& conv = read.tensor(conv_name(i, ""), {outputs, inputs, conv_size, conv_size});
    w.convs[i].conv = Matrix::packed(conv.data, conv.type, outputs, inputs * conv_size * conv_size);
    w.convs[i].norm = read.floats(conv_name(i, ".norm"), {outputs});
    inputs = outputs;
  }
  w.input_proj = read.matrix("a.pre_encode.out.weight", shape.width, shape.conv_width(2) * inputs);
  const std::size_t blocks = read.size("block_count", 1, 1024);
  for (std::size_t i = 0; i < blocks; ++i) w.blocks.push_back(read_block(read, shape, i));
  return w;
}

}  // namespace gemlet
