#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "tiny_model.hpp"

// The smallest complete encoders with random weights, by llama.cpp's names.
namespace tiny {

/// Adds tensors; dimensions are given outermost first.
class EncoderWriter {
 public:
  explicit EncoderWriter(gguf::Builder& file) : file_(file) {}

  void weights(const std::string& name, std::vector<std::uint64_t> shape) {
    std::uint64_t count = 1, outputs = shape.front();
    for (const std::uint64_t n : shape) count *= n;
    const float bound = 1.7F / std::sqrt(static_cast<float>(count / outputs));
    add(name + ".weight", shape, -bound, bound, count);
  }
  void norm(const std::string& name, std::uint64_t size) { add(name + ".weight", {size}, 0.5F, 1.5F, size); }
  void bias(const std::string& name, std::uint64_t size) { add(name + ".bias", {size}, -0.3F, 0.3F, size); }

 private:
  void add(const std::string& name, const std::vector<std::uint64_t>& shape, float low, float high,
           std::uint64_t count) {
    std::vector<float> values(count);
    for (float& v : values) v = low + (high - low) * (0.5F + 0.5F * random_.uniform());
    file_.add_floats(name, {shape.rbegin(), shape.rend()}, values);
  }

  gguf::Builder& file_;
  Random random_{91};
};

inline void add_embedder(EncoderWriter& add, const std::string& prefix, std::uint64_t width, std::uint64_t hidden) {
  add.weights(prefix + "embedding", {128, width});
  add.norm(prefix + "hard_emb_norm", width);
  add.norm(prefix + "soft_emb_norm", width);
  add.weights(prefix + "input_projection", {hidden, width});
}

/// Gemma 3n's audio encoder: 2 blocks of 2 heads.
inline void add_audio_encoder(gguf::Builder& file, std::uint64_t hidden = 64) {
  constexpr std::uint64_t width = 24, mel = 16, first = 3, second = 4;
  file.add_u32("clip.audio.block_count", 2);
  file.add_u32("clip.audio.num_mel_bins", mel);
  EncoderWriter add(file);
  add.weights("a.conv1d.0", {first, 1, 3, 3});
  add.norm("a.conv1d.0.norm", first);
  add.weights("a.conv1d.1", {second, first, 3, 3});
  add.norm("a.conv1d.1.norm", second);
  add.weights("a.pre_encode.out", {width, mel / 4 * second});
  for (int i = 0; i < 2; ++i) {
    const std::string blk = "a.blk." + std::to_string(i) + ".";
    for (const char* suffix : {"", "_1"}) {
      add.norm(blk + "ffn_norm" + suffix, width);
      add.weights(blk + "ffn_up" + suffix, {4 * width, width});
      add.weights(blk + "ffn_down" + suffix, {width, 4 * width});
      add.norm(blk + "ffn_post_norm" + suffix, width);
    }
    for (const char* norm : {"ln1", "ln2", "conv_norm", "norm_conv", "layer_pre_norm"}) add.norm(blk + norm, width);
    for (const char* square : {"attn_q", "attn_k", "attn_v", "attn_out", "linear_pos", "conv_pw2"}) {
      add.weights(blk + square, {width, width});
    }
    add.norm(blk + "per_dim_scale", width / 2);
    add.weights(blk + "conv_pw1", {2 * width, width});
    add.weights(blk + "conv_dw", {width, 1, 5});
  }
  add_embedder(add, "mm.a.", width, hidden);
}

/// Gemma 3n's vision encoder: four stages with every kind of block.
inline void add_vision_encoder(gguf::Builder& file, std::uint64_t hidden = 64) {
  EncoderWriter add(file);
  const auto conv_and_norm = [&](const std::string& name, std::uint64_t outputs, std::uint64_t inputs,
                                 std::uint64_t kernel) {
    add.weights(name + ".conv", {outputs, inputs, kernel, kernel});
    add.norm(name + ".bn", outputs);
  };
  const auto inverted = [&](const std::string& blk, std::uint64_t in, std::uint64_t out, std::uint64_t start,
                            std::uint64_t middle) {
    const std::uint64_t wide = 2 * in;
    if (start > 0) conv_and_norm(blk + "dw_start", in, 1, start);
    conv_and_norm(blk + "pw_exp", wide, in, 1);
    if (middle > 0) conv_and_norm(blk + "dw_mid", wide, 1, middle);
    conv_and_norm(blk + "pw_proj", out, wide, 1);
    file.add_floats(blk + "layer_scale.gamma", {out}, std::vector<float>(out, 0.7F));
  };
  const auto attention = [&](const std::string& blk, std::uint64_t channels, std::uint64_t dim, bool down) {
    add.norm(blk + "norm", channels);
    add.weights(blk + "attn.query.proj", {2 * dim, channels, 1, 1});
    for (const char* part : {"key", "value"}) {
      if (down) {
        add.weights(blk + "attn." + part + ".down_conv", {channels, 1, 3, 3});
        add.norm(blk + "attn." + part + ".norm", channels);
      }
      add.weights(blk + "attn." + part + ".proj", {dim, channels, 1, 1});
    }
    add.weights(blk + "attn.output.proj", {channels, 2 * dim, 1, 1});
    file.add_floats(blk + "layer_scale.gamma", {channels}, std::vector<float>(channels, 0.6F));
  };
  conv_and_norm("v.conv_stem", 4, 3, 3);
  file.add_floats("v.conv_stem.conv.bias", {4}, {0.1F, -0.1F, 0.2F, -0.2F});
  add.weights("v.blk.0.0.conv_exp", {8, 4, 3, 3});
  add.norm("v.blk.0.0.bn1", 8);
  add.weights("v.blk.0.0.conv_pwl", {5, 8, 1, 1});
  add.norm("v.blk.0.0.bn2", 5);
  inverted("v.blk.1.0.", 5, 6, 3, 5);
  inverted("v.blk.1.1.", 6, 6, 5, 0);
  inverted("v.blk.2.0.", 6, 8, 5, 5);
  attention("v.blk.2.1.", 8, 4, true);
  inverted("v.blk.2.2.", 8, 8, 0, 0);
  inverted("v.blk.3.0.", 8, 10, 5, 5);
  attention("v.blk.3.1.", 10, 3, false);
  conv_and_norm("v.msfa.ffn.pw_exp", 12, 18, 1);
  conv_and_norm("v.msfa.ffn.pw_proj", 16, 12, 1);
  add.norm("v.msfa.norm", 16);
  add_embedder(add, "mm.", 16, hidden);
}

/// Gemma 3's vision encoder: 2 blocks of 2 heads, pictures of 24 pixels, 4 soft tokens of 3 x 3 patches.
inline void add_siglip_encoder(gguf::Builder& file, std::uint64_t hidden = 64) {
  constexpr std::uint64_t width = 20, ffn = 28, patch = 4, side = 6;
  file.add_string("clip.projector_type", "gemma3");
  file.add_u32("clip.vision.image_size", patch * side);
  file.add_u32("clip.vision.patch_size", patch);
  file.add_u32("clip.vision.projector.scale_factor", 3);
  file.add_u32("clip.vision.block_count", 2);
  file.add_u32("clip.vision.attention.head_count", 2);
  file.add_array<float>("clip.vision.image_mean", gguf::f32, {0.5F, 0.4F, 0.6F});
  file.add_array<float>("clip.vision.image_std", gguf::f32, {0.5F, 0.6F, 0.4F});
  EncoderWriter add(file);
  const auto norm = [&](const std::string& name) {
    add.norm(name, width);
    add.bias(name, width);
  };
  const auto linear = [&](const std::string& name, std::vector<std::uint64_t> shape) {
    add.weights(name, shape);
    add.bias(name, shape.front());
  };
  linear("v.patch_embd", {width, 3, patch, patch});
  add.weights("v.position_embd", {side * side, width});
  for (int i = 0; i < 2; ++i) {
    const std::string blk = "v.blk." + std::to_string(i) + ".";
    norm(blk + "ln1");
    for (const char* square : {"attn_q", "attn_k", "attn_v", "attn_out"}) linear(blk + square, {width, width});
    norm(blk + "ln2");
    linear(blk + "ffn_up", {ffn, width});
    linear(blk + "ffn_down", {width, ffn});
  }
  norm("v.post_ln");
  add.norm("mm.soft_emb_norm", width);
  add.weights("mm.input_projection", {width, hidden});
}

/// A separate file of both of Gemma 3n's ("mmproj").
inline gguf::Builder encoders() {
  gguf::Builder file;
  file.add_string("general.architecture", "clip");
  add_vision_encoder(file);
  add_audio_encoder(file);
  return file;
}

}  // namespace tiny
