#pragma once

#include <cstddef>
#include <string>

#include "format/reader.hpp"
#include "gemlet/gemlet.hpp"
#include "model/shape.hpp"

namespace gemlet {

// Far above any Gemma, and low enough that no product of two of them overflows or asks for absurd memory.
inline constexpr std::size_t max_layers = 1024;
inline constexpr std::size_t max_width = 1 << 20;
inline constexpr std::size_t max_context = 1 << 24;
inline constexpr std::size_t max_vocabulary = 1 << 24;

struct AttentionHeads {
  std::size_t heads;
  std::size_t kv_heads;
  std::size_t head_dim;
};

/// For architectures whose layers all have the same heads. A file without attention.key_length, as older converters
/// wrote them, has heads of embedding_length / head_count.
AttentionHeads read_attention_heads(const Reader& read, std::size_t hidden_size);

/// Tokens that have both a row of token_embd.weight and a piece in the tokenizer: files of the family pad either.
std::size_t read_vocab_size(const Reader& read, std::size_t tokens);

/// [vocab_size, hidden_size]: the rows of an embedding or a head that stand for tokens.
Matrix read_vocabulary_matrix(const Reader& read, const std::string& name, const ModelShape& shape);

/// What all architectures say of themselves, in the names of transformers' configurations.
Hyperparameters hyperparameters(const ModelShape& shape);

}  // namespace gemlet
