#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tiny_model.hpp"

// Complete Gemma 3n GGUFs with random weights. They say nothing sensible; they are here to be loaded.
namespace tiny {

/// Dimensions that differ from each other and from those of the published models. About 300 KB.
struct Shape {
  std::uint64_t hidden = 64;
  std::uint64_t heads = 3;
  std::uint64_t kv_heads = 1;
  std::uint64_t head_dim = 32;
  std::uint64_t ffn = 256;  ///< K-quants want rows of 256
  std::uint64_t ple = 32;   ///< the width of a layer's input
  std::uint64_t laurel_rank = 8;
  std::uint64_t altup = 4;
  std::vector<std::uint8_t> sliding = {1, 1, 0, 1, 0};  ///< one a layer
  std::uint64_t shared_layers = 2;
  std::uint64_t window = 6;
  std::uint64_t context = 512;
  std::uint64_t ple_missing_rows = 4;  ///< rows that the per-layer table is shorter than the vocabulary
  bool media = false;                  ///< the vocabulary has the pieces in front of pictures and sounds

  std::uint64_t layers() const { return sliding.size(); }
};

/// About 50 KB, for the fuzzer's corpus.
inline Shape smallest() {
  Shape shape;
  shape.hidden = 32;
  shape.heads = 1;
  shape.ffn = 32;
  shape.altup = 2;
  shape.sliding = {1, 0, 1};
  shape.shared_layers = 1;
  return shape;
}

inline void add_config(gguf::Builder& file, const Shape& shape) {
  const std::string key = "gemma3n.";
  const auto narrow = [](std::uint64_t value) { return static_cast<std::uint32_t>(value); };
  file.add_string("general.architecture", "gemma3n");
  file.add_string("general.name", "tiny");
  file.add_u32(key + "context_length", narrow(shape.context));
  file.add_u32(key + "embedding_length", narrow(shape.hidden));
  file.add_u32(key + "block_count", narrow(shape.layers()));
  file.add_array<std::uint32_t>(key + "feed_forward_length", gguf::u32,
                                std::vector<std::uint32_t>(shape.layers(), narrow(shape.ffn)));
  file.add_u32(key + "attention.head_count", narrow(shape.heads));
  file.add_u32(key + "attention.head_count_kv", narrow(shape.kv_heads));
  file.add_u32(key + "attention.key_length", narrow(shape.head_dim));
  file.add_u32(key + "attention.value_length", narrow(shape.head_dim));
  file.add_f32(key + "attention.layer_norm_rms_epsilon", 1e-6F);
  file.add_f32(key + "rope.freq_base", 1e6F);
  file.add_f32(key + "rope.freq_base_swa", 1e4F);
  file.add_u32(key + "attention.sliding_window", narrow(shape.window));
  file.add_array<std::uint8_t>(key + "attention.sliding_window_pattern", gguf::boolean, shape.sliding);
  file.add_u32(key + "attention.shared_kv_layers", narrow(shape.shared_layers));
  file.add_u32(key + "altup.active_idx", 0);
  file.add_u32(key + "altup.num_inputs", narrow(shape.altup));
  file.add_u32(key + "embedding_length_per_layer_input", narrow(shape.ple));
  std::vector<float> sparsity(shape.layers(), -std::numeric_limits<float>::infinity());  // a dense layer's
  sparsity[0] = 1.6448536F;
  sparsity[1] = 0.5F;
  file.add_array(key + "activation_sparsity_scale", gguf::f32, sparsity);
  file.add_f32(key + "final_logit_softcapping", 30.0F);
}

inline void add_tensors(gguf::Builder& file, const Shape& shape, Random& random) {
  using gemlet::DType;
  const auto add = [&](const std::string& name, DType type, std::vector<std::uint64_t> dims, float bound) {
    std::uint64_t count = 1;
    for (const std::uint64_t dim : dims) count *= dim;
    file.add_tensor(name + ".weight", static_cast<std::uint32_t>(type), dims,
                    random_values(type, count, bound, random));
  };
  const auto norm = [&](const std::string& name, std::uint64_t width) {
    std::vector<float> values(width);
    for (float& value : values) value = 1.0F + 0.2F * random.uniform();
    file.add_floats(name + ".weight", {width}, values);
  };
  const std::uint64_t vocab = vocabulary(shape.media).size();
  add("token_embd", DType::q8_0, {shape.hidden, vocab}, 1.0F);
  add("per_layer_token_embd", DType::q8_0, {shape.ple * shape.layers(), vocab - shape.ple_missing_rows}, 0.2F);
  add("per_layer_model_proj", DType::bf16, {shape.hidden, shape.ple * shape.layers()}, 0.2F);
  norm("per_layer_proj_norm", shape.ple);
  add("altup_proj", DType::q4_0, {shape.hidden, shape.hidden, shape.altup - 1}, 0.2F);
  add("altup_unembd_proj", DType::f16, {shape.hidden, shape.hidden, shape.altup - 1}, 0.2F);
  norm("output_norm", shape.hidden);
  constexpr DType down_types[] = {DType::q4_k, DType::q5_k, DType::q6_k, DType::q8_0, DType::q4_0};
  for (std::uint64_t i = 0; i < shape.layers(); ++i) {
    const std::string blk = "blk." + std::to_string(i) + ".";
    norm(blk + "attn_norm", shape.hidden);
    add(blk + "attn_q", DType::q4_0, {shape.hidden, shape.heads * shape.head_dim}, 0.2F);
    norm(blk + "attn_q_norm", shape.head_dim);
    if (i < shape.layers() - shape.shared_layers) {
      add(blk + "attn_k", DType::q8_0, {shape.hidden, shape.kv_heads * shape.head_dim}, 0.2F);
      add(blk + "attn_v", DType::f16, {shape.hidden, shape.kv_heads * shape.head_dim}, 0.2F);
      norm(blk + "attn_k_norm", shape.head_dim);
    }
    add(blk + "attn_output", DType::q4_0, {shape.heads * shape.head_dim, shape.hidden}, 0.2F);
    norm(blk + "post_attention_norm", shape.hidden);
    add(blk + "laurel_l", DType::f32, {shape.hidden, shape.laurel_rank}, 0.2F);
    add(blk + "laurel_r", DType::bf16, {shape.laurel_rank, shape.hidden}, 0.2F);
    norm(blk + "laurel_post_norm", shape.hidden);
    norm(blk + "ffn_norm", shape.hidden);
    add(blk + "ffn_gate", DType::q4_0, {shape.hidden, shape.ffn}, 0.2F);
    add(blk + "ffn_up", DType::q8_0, {shape.hidden, shape.ffn}, 0.2F);
    add(blk + "ffn_down", down_types[shape.ffn % 256 == 0 ? i % 5 : 3], {shape.ffn, shape.hidden}, 0.3F);
    norm(blk + "post_ffw_norm", shape.hidden);
    norm(blk + "altup_router_norm", shape.hidden);
    add(blk + "altup_router", DType::f32, {shape.hidden, shape.altup}, 0.2F);
    add(blk + "altup_predict_coef", DType::f32, {shape.altup, shape.altup * shape.altup}, 0.2F);
    add(blk + "altup_correct_coef", DType::f32, {shape.altup, shape.altup}, 0.2F);
    norm(blk + "altup_correct_scale", shape.hidden);
    add(blk + "inp_gate", DType::q8_0, {shape.hidden, shape.ple}, 0.2F);
    add(blk + "proj", DType::q8_0, {shape.ple, shape.hidden}, 0.2F);
    norm(blk + "post_norm", shape.hidden);
  }
}

inline gguf::Builder gemma3n(const Shape& shape = {}, std::uint64_t seed = 1) {
  gguf::Builder file;
  Random random(seed);
  add_config(file, shape);
  add_tokenizer(file, shape.media);
  add_tensors(file, shape, random);
  return file;
}

}  // namespace tiny
