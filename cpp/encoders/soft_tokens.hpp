#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "format/reader.hpp"
#include "tensor/compute.hpp"
#include "tensor/tensor.hpp"

namespace gemlet {

/// Whether the file has tensors whose names begin so.
bool has_tensors(const GgufFile& file, std::initializer_list<std::string_view> beginnings);

/// From what an encoder gives to embeddings of the text model: RMSNorm, projection, RMSNorm without weights
/// (transformers, MultimodalEmbedder of Gemma 3n). Its table of hard tokens holds those that mark the ends of media and
/// fill them up.
class SoftTokens {
 public:
  /// `prefix`: "mm." or "mm.a.", as llama.cpp names the tensors.
  SoftTokens(const Reader& read, const std::string& prefix, std::size_t width);

  std::size_t width() const { return soft_norm_.size(); }       ///< of the encoder
  std::size_t hidden_size() const { return projection_.rows; }  ///< of the text model
  std::size_t hard_tokens() const { return hard_embedding_.rows; }

  /// Replaces `x`, float[tokens][width()]; `out` is float[tokens][hidden_size()].
  void project(float* x, std::size_t tokens, float* out, Compute& compute) const;
  /// Appends the embedding of hard token `index` < hard_tokens(), float[hidden_size()].
  void append_hard(std::size_t index, Compute& compute, std::vector<float>& rows) const;

 private:
  void project_normed(const float* x, std::size_t tokens, float* out, Compute& compute) const;

  std::vector<float> soft_norm_;  // [width]
  std::vector<float> hard_norm_;  // [width]
  Matrix projection_;             // [hidden, width]
  Matrix hard_embedding_;         // [hard tokens, width]
};

}  // namespace gemlet
