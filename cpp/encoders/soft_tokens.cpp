#include "encoders/soft_tokens.hpp"

#include <algorithm>

#include "encoders/norm.hpp"

namespace gemlet {

bool has_tensors(const GgufFile& file, std::initializer_list<std::string_view> beginnings) {
  return std::any_of(file.tensors().begin(), file.tensors().end(), [&](const Tensor& tensor) {
    return std::any_of(beginnings.begin(), beginnings.end(),
                       [&](std::string_view beginning) { return tensor.name.starts_with(beginning); });
  });
}

SoftTokens::SoftTokens(const Reader& read, const std::string& prefix, std::size_t width)
    : soft_norm_(read.floats(prefix + "soft_emb_norm.weight", {width})),
      hard_norm_(read.floats(prefix + "hard_emb_norm.weight", {width})) {
  constexpr std::size_t most = std::size_t{1} << 20;
  const std::string projection = prefix + "input_projection.weight";
  projection_ = read.matrix(projection, read.dimension(projection, 2, 0, 1, most), width);
  const std::string table = prefix + "embedding.weight";
  hard_embedding_ = read.matrix(table, read.dimension(table, 2, 0, 1, most), width);
}

void SoftTokens::project(float* x, std::size_t tokens, float* out, Compute& compute) const {
  norm_rows(x, soft_norm_.data(), width(), tokens, compute);
  project_normed(x, tokens, out, compute);
}

void SoftTokens::append_hard(std::size_t index, Compute& compute, std::vector<float>& rows) const {
  std::vector<float> x(width());
  compute.kernels().weights[static_cast<std::size_t>(hard_embedding_.type)].dequantize(hard_embedding_.row(index),
                                                                                       x.data(), x.size());
  norm_rows(x.data(), hard_norm_.data(), width(), 1, compute);
  rows.resize(rows.size() + hidden_size());
  project_normed(x.data(), 1, rows.data() + rows.size() - hidden_size(), compute);
}

void SoftTokens::project_normed(const float* x, std::size_t tokens, float* out, Compute& compute) const {
  compute.linear({{projection_, out}}, x, tokens);
  norm_rows(out, nullptr, hidden_size(), tokens, compute);
}

}  // namespace gemlet
