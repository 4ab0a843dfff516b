#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "gguf_builder.hpp"
#include "kernels/dtype.hpp"

// What the tiny models of all architectures are made of: random weights, and a vocabulary.
namespace tiny {

/// Numbers that are the same everywhere, unlike those of <random>'s distributions.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {  // splitmix64
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t n) { return next() % n; }
  float uniform() { return static_cast<float>(next() >> 40) / 8388608.0F - 1.0F; }  // [-1, 1)

 private:
  std::uint64_t state_;
};

/// `count` values in storage type `type`, evenly spread over about [-bound, bound].
inline std::string random_values(gemlet::DType type, std::uint64_t count, float bound, Random& random) {
  const gemlet::DTypeTraits& stored = gemlet::traits(type);
  const auto half = [](float value) {  // value is a positive normal half
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<std::uint16_t>((bits >> 13) - (112 << 10));
  };
  std::string data;
  for (std::uint64_t block = 0; block < count / stored.elements; ++block) {
    std::string bytes(stored.bytes, '\0');
    const float value = bound * random.uniform();
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    for (char& byte : bytes) byte = static_cast<char>(random.next());
    const auto put_half = [&](std::size_t at, float scale) {
      const std::uint16_t h = half(scale);
      std::memcpy(bytes.data() + at, &h, sizeof h);
    };
    switch (type) {
      case gemlet::DType::f32:
        std::memcpy(bytes.data(), &bits, 4);
        break;
      case gemlet::DType::bf16: {
        const auto top = static_cast<std::uint16_t>(bits >> 16);
        std::memcpy(bytes.data(), &top, 2);
        break;
      }
      case gemlet::DType::f16:
        put_half(0, bound * (0.01F + 0.99F * static_cast<float>(random.below(1024)) / 1024));
        if (random.below(2) == 0) bytes[1] = static_cast<char>(bytes[1] | '\x80');
        break;
      case gemlet::DType::q4_0:
        put_half(0, bound / 8);
        break;
      case gemlet::DType::q8_0:
        put_half(0, bound / 128);
        break;
      case gemlet::DType::q4_k:
        put_half(0, bound / 472);  // 63 * 15 / 2
        put_half(2, bound / 32);
        break;
      case gemlet::DType::q5_k:
        put_half(0, bound / 976);
        put_half(2, bound / 32);
        break;
      case gemlet::DType::q6_k:
        put_half(208, bound / 4096);
        break;
      default:
        throw std::invalid_argument(std::string("no random values of type ") + stored.name);
    }
    data += bytes;
  }
  return data;
}

/// `media`: with the pieces in front of pictures and sounds, behind all others.
inline std::vector<std::string> vocabulary(bool media = false) {
  std::vector<std::string> tokens = {"<pad>", "<eos>", "<bos>", "<unk>"};
  constexpr const char* digits = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">");
  }
  for (const char* special : {"<start_of_turn>", "<end_of_turn>"}) tokens.emplace_back(special);
  for (const char* piece :
       {"\u2581", "he", "ll", "hell", "hello", "\u2581wo", "\u2581w", "or", "ld", "orld", "\u2581world", "\n"}) {
    tokens.emplace_back(piece);
  }
  for (char c = 'a'; c <= 'z'; ++c) tokens.emplace_back(1, c);
  if (media) tokens.insert(tokens.end(), {"<start_of_image>", "<start_of_audio>"});
  return tokens;
}

inline void add_tokenizer(gguf::Builder& file, bool media = false) {
  const std::vector<std::string> tokens = vocabulary(media);
  const std::size_t texts = vocabulary().size();
  std::vector<float> scores;
  std::vector<std::int32_t> types;  // 1 normal, 2 unknown, 3 control, 6 byte
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    scores.push_back(i < 262 ? 0.0F : -static_cast<float>(i - 262));
    types.push_back(i == 3 ? 2 : i < 3 ? 3 : i < 260 ? 6 : i < 262 || i >= texts ? 3 : 1);
  }
  file.add_string("tokenizer.ggml.model", "llama");
  file.add_strings("tokenizer.ggml.tokens", tokens);
  file.add_array("tokenizer.ggml.scores", gguf::f32, scores);
  file.add_array("tokenizer.ggml.token_type", gguf::i32, types);
  file.add_u32("tokenizer.ggml.bos_token_id", 2);
  file.add_u32("tokenizer.ggml.eos_token_id", 1);
  file.add_u32("tokenizer.ggml.unknown_token_id", 3);
  file.add_u32("tokenizer.ggml.padding_token_id", 0);
  file.add_bool("tokenizer.ggml.add_bos_token", true);
  file.add_bool("tokenizer.ggml.add_space_prefix", false);
  file.add_string("tokenizer.chat_template", "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}");
}

}  // namespace tiny
