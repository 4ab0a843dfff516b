#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tiny_model.hpp"

// A complete Gemma 3 GGUF with random weights.
namespace tiny {

/// Dimensions that differ from each other and from those of the published models.
struct Gemma3Shape {
  std::uint64_t hidden = 64;
  std::uint64_t heads = 3;
  std::uint64_t kv_heads = 1;
  std::uint64_t head_dim = 32;
  std::uint64_t ffn = 96;
  std::vector<std::uint8_t> sliding = {1, 0, 1, 1};
  std::uint64_t window = 6;
  std::uint64_t context = 512;
  bool fused_qkv = false;  ///< queries, keys and values in one tensor
};

/// token_embd.weight, [vocabulary][hidden].
inline std::vector<float> gemma3_embedding(const Gemma3Shape& shape = {}) {
  Random random(77);
  std::vector<float> values(vocabulary().size() * shape.hidden);
  for (float& value : values) value = random.uniform();
  return values;
}

/// blk.0.attn_q.weight, [heads * head_dim][hidden].
inline std::vector<float> gemma3_q_proj(const Gemma3Shape& shape = {}) {
  Random random(78);
  std::vector<float> values(shape.heads * shape.head_dim * shape.hidden);
  for (float& value : values) value = 0.2F * random.uniform();
  return values;
}

inline gguf::Builder gemma3(const Gemma3Shape& shape = {}, const std::vector<float>& q_proj = gemma3_q_proj()) {
  using gemlet::DType;
  gguf::Builder file;
  Random random(5);
  const std::string key = "gemma3.";
  const auto narrow = [](std::uint64_t value) { return static_cast<std::uint32_t>(value); };
  file.add_string("general.architecture", "gemma3");
  file.add_u32(key + "context_length", narrow(shape.context));
  file.add_u32(key + "embedding_length", narrow(shape.hidden));
  file.add_u32(key + "block_count", narrow(shape.sliding.size()));
  file.add_u32(key + "feed_forward_length", narrow(shape.ffn));
  file.add_u32(key + "attention.head_count", narrow(shape.heads));
  file.add_u32(key + "attention.head_count_kv", narrow(shape.kv_heads));
  file.add_u32(key + "attention.key_length", narrow(shape.head_dim));
  file.add_u32(key + "attention.value_length", narrow(shape.head_dim));
  file.add_f32(key + "attention.layer_norm_rms_epsilon", 1e-6F);
  file.add_u32(key + "attention.sliding_window", narrow(shape.window));
  file.add_array<std::uint8_t>(key + "attention.sliding_window_pattern", gguf::boolean, shape.sliding);
  add_tokenizer(file);

  const auto add = [&](const std::string& name, DType type, std::uint64_t cols, std::uint64_t rows) {
    file.add_tensor(name + ".weight", static_cast<std::uint32_t>(type), {cols, rows},
                    random_values(type, cols * rows, 0.2F, random));
  };
  const auto norm = [&](const std::string& name, std::uint64_t width) {
    std::vector<float> values(width);
    for (float& value : values) value = 1.0F + 0.2F * random.uniform();
    file.add_floats(name + ".weight", {width}, values);
  };
  file.add_floats("token_embd.weight", {shape.hidden, vocabulary().size()}, gemma3_embedding(shape));
  norm("output_norm", shape.hidden);
  const std::uint64_t q_dim = shape.heads * shape.head_dim;
  const std::uint64_t kv_dim = shape.kv_heads * shape.head_dim;
  for (std::uint64_t i = 0; i < shape.sliding.size(); ++i) {
    const std::string blk = "blk." + std::to_string(i) + ".";
    norm(blk + "attn_norm", shape.hidden);
    if (i == 0 || !shape.fused_qkv) {
      if (i == 0) {
        file.add_floats(blk + "attn_q.weight", {shape.hidden, q_dim}, q_proj);
      } else {
        add(blk + "attn_q", DType::q8_0, shape.hidden, q_dim);
      }
      add(blk + "attn_k", DType::q8_0, shape.hidden, kv_dim);
      add(blk + "attn_v", DType::q8_0, shape.hidden, kv_dim);
    } else {
      add(blk + "attn_qkv", DType::q8_0, shape.hidden, q_dim + 2 * kv_dim);
    }
    norm(blk + "attn_q_norm", shape.head_dim);
    norm(blk + "attn_k_norm", shape.head_dim);
    add(blk + "attn_output", DType::q4_0, q_dim, shape.hidden);
    norm(blk + "post_attention_norm", shape.hidden);
    norm(blk + "ffn_norm", shape.hidden);
    add(blk + "ffn_gate", DType::q4_0, shape.hidden, shape.ffn);
    add(blk + "ffn_up", DType::q8_0, shape.hidden, shape.ffn);
    add(blk + "ffn_down", DType::q8_0, shape.ffn, shape.hidden);
    norm(blk + "post_ffw_norm", shape.hidden);
  }
  return file;
}

}  // namespace tiny
