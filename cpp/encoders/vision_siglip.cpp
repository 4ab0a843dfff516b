#include "encoders/vision_siglip.hpp"

#include <algorithm>
#include <string>
#include <string_view>

#include "encoders/attention.hpp"
#include "encoders/cancel.hpp"
#include "encoders/feature_map.hpp"
#include "encoders/soft_tokens.hpp"
#include "gemlet/error.hpp"

namespace gemlet {
namespace {

constexpr std::size_t strip_rows = 512;  // patches that pass a layer at a time

/// Runs the tower over the patches of one picture, which it holds: float[patches][width], row by row of the picture.
class Tower {
 public:
  Tower(const SiglipWeights& weights, Compute& compute, const Cancel* cancel)
      : weights_(weights),
        compute_(compute),
        cancel_(cancel),
        width_(weights.width()),
        patches_(weights.side() * weights.side()),
        x_(patches_ * width_),
        keys_(x_.size()),
        values_(x_.size()),
        normed_(std::min(strip_rows, patches_) * width_),
        wide_(std::min(strip_rows, patches_) * std::max(2 * width_, weights.blocks.front().fc1.matrix.rows)) {}

  void embed(const FeatureMap& picture);
  void run(const SiglipBlockWeights& block) {
    attend_all(block);
    feed_forward(block);
  }
  void finish() { norm(weights_.post_layernorm, x_.data(), patches_, x_.data()); }
  const std::vector<float>& patches() const { return x_; }

 private:
  void attend_all(const SiglipBlockWeights& block);
  void feed_forward(const SiglipBlockWeights& block);
  void norm(const LayerNormWeights& weights, const float* x, std::size_t rows, float* out);
  /// x += y + bias, for some rows.
  void add(const float* y, const std::vector<float>& bias, float* x, std::size_t rows);
  /// Keys or values of some rows, float[rows][width], to [heads][patches][head_dim].
  void keep(const float* from, const std::vector<float>& bias, std::size_t first, std::size_t rows,
            std::vector<float>& to);

  /// strip(first, count, their part of x), for all patches.
  template <typename Strip>
  void each_strip(const Strip& strip) {
    for (std::size_t first = 0; first < patches_; first += strip_rows) {
      check_cancelled(cancel_, "the picture");
      strip(first, std::min(strip_rows, patches_ - first), x_.data() + first * width_);
    }
  }

  const SiglipWeights& weights_;
  Compute& compute_;
  const Cancel* cancel_;
  std::size_t width_;
  std::size_t patches_;
  std::vector<float> x_;
  std::vector<float> keys_, values_;  // float[heads][patches][head_dim]
  std::vector<float> normed_, wide_;  // of one strip
  std::vector<float> scratch_;
};

void Tower::embed(const FeatureMap& picture) {
  const BiasedMatrix& w = weights_.patch_embedding;
  const Matrix& positions = weights_.position_embedding;
  const auto dequantize = compute_.kernels().weights[static_cast<std::size_t>(positions.type)].dequantize;
  const std::size_t side = weights_.side();
  std::vector<float> windows(side * w.matrix.cols);
  for (std::size_t row = 0; row < side; ++row) {
    check_cancelled(cancel_, "the picture");
    float* const x = x_.data() + row * side * width_;
    gather_windows(picture, weights_.patch_size, weights_.patch_size, row, row + 1, windows.data(), compute_);
    compute_.linear({{w.matrix, x}}, windows.data(), side);
    compute_.each_token(side, [&](std::size_t i) {
      float* const position = normed_.data() + i * width_;
      dequantize(positions.row(row * side + i), position, width_);
      compute_.kernels().add(w.bias.data(), x + i * width_, width_);
      compute_.kernels().add(position, x + i * width_, width_);
    });
  }
}

void Tower::norm(const LayerNormWeights& weights, const float* x, std::size_t rows, float* out) {
  compute_.each_token(rows, [&](std::size_t i) {
    compute_.kernels().layer_norm(x + i * width_, weights.weight.data(), weights.bias.data(), weights_.norm_eps,
                                  out + i * width_, width_);
  });
}

void Tower::add(const float* y, const std::vector<float>& bias, float* x, std::size_t rows) {
  compute_.each_token(rows, [&](std::size_t i) {
    compute_.kernels().add(bias.data(), x + i * width_, width_);
    compute_.kernels().add(y + i * width_, x + i * width_, width_);
  });
}

void Tower::keep(const float* from, const std::vector<float>& bias, std::size_t first, std::size_t rows,
                 std::vector<float>& to) {
  const std::size_t dim = width_ / weights_.heads;
  compute_.each_token(rows, [&](std::size_t i) {
    for (std::size_t h = 0; h < weights_.heads; ++h) {
      float* const row = to.data() + (h * patches_ + first + i) * dim;
      std::copy_n(from + i * width_ + h * dim, dim, row);
      compute_.kernels().add(bias.data() + h * dim, row, dim);
    }
  });
}

void Tower::attend_all(const SiglipBlockWeights& block) {
  each_strip([&](std::size_t first, std::size_t rows, const float* x) {
    float* const keys = wide_.data();
    float* const values = keys + rows * width_;
    norm(block.layer_norm1, x, rows, normed_.data());
    compute_.linear({{block.k_proj.matrix, keys}, {block.v_proj.matrix, values}}, normed_.data(), rows);
    keep(keys, block.k_proj.bias, first, rows, keys_);
    keep(values, block.v_proj.bias, first, rows, values_);
  });
  const HeadRows heads{keys_.data(), values_.data(), weights_.heads, patches_, width_ / weights_.heads};
  each_strip([&](std::size_t, std::size_t rows, float* x) {
    float* const queries = wide_.data();
    norm(block.layer_norm1, x, rows, normed_.data());
    compute_.linear({{block.q_proj.matrix, queries}}, normed_.data(), rows);
    compute_.each_token(
        rows, [&](std::size_t i) { compute_.kernels().add(block.q_proj.bias.data(), queries + i * width_, width_); });
    attend(queries, rows, heads, scratch_, compute_);
    compute_.linear({{block.out_proj.matrix, normed_.data()}}, queries, rows);
    add(normed_.data(), block.out_proj.bias, x, rows);
  });
}

void Tower::feed_forward(const SiglipBlockWeights& block) {
  const std::size_t ffn = block.fc1.matrix.rows;
  each_strip([&](std::size_t, std::size_t rows, float* x) {
    norm(block.layer_norm2, x, rows, normed_.data());
    compute_.linear({{block.fc1.matrix, wide_.data()}}, normed_.data(), rows);
    compute_.each_token(rows, [&](std::size_t i) {
      float* const row = wide_.data() + i * ffn;
      compute_.kernels().add(block.fc1.bias.data(), row, ffn);
      compute_.kernels().gelu_mul(row, nullptr, ffn);
    });
    compute_.linear({{block.fc2.matrix, normed_.data()}}, wide_.data(), rows);
    add(normed_.data(), block.fc2.bias, x, rows);
  });
}

constexpr std::string_view projector = "gemma3";  // by llama.cpp's name

void require_projector(const GgufFile& file) {
  const Reader read(file, "clip");
  const std::string_view whole = read.string("projector_type", "");
  const std::string_view found = whole.empty() ? read.string("vision.projector_type", "") : whole;
  if (found == projector) return;
  throw Error(Error::Kind::unsupported, file.parts().front().file.path().string() + ": clip.projector_type is \"" +
                                            std::string(found) + "\", expected \"" + std::string(projector) +
                                            "\": of vision transformers gemlet has Gemma 3's");
}

}  // namespace

bool VisionSiglip::is_in(const GgufFile& file) { return has_tensors(file, {"v.patch_embd."}); }

VisionSiglip::VisionSiglip(const GgufFile& file) {
  require_projector(file);
  weights_ = read_siglip_weights(Reader(file, "clip.vision"));
  const std::size_t side = weights_.side() / weights_.pool;
  shape_ = {.sizes = {weights_.image_size},
            .default_size = weights_.image_size,
            .hidden_size = weights_.projection.cols,
            .rows = side * side,
            .begin = "<start_of_image>",
            .end = "<end_of_image>"};
}

std::vector<float> VisionSiglip::run(std::span<const std::uint8_t> pixels, std::size_t size, Compute& compute,
                                     const Cancel* cancel, const std::function<void(float)>& progress) const {
  Tower tower(weights_, compute, cancel);
  tower.embed(to_feature_map(pixels, size, weights_.pixels));
  for (std::size_t i = 0; i < weights_.blocks.size(); ++i) {
    if (progress) progress(static_cast<float>(i) / static_cast<float>(weights_.blocks.size()));
    tower.run(weights_.blocks[i]);
  }
  tower.finish();
  std::vector<float> rows = project(tower.patches(), compute);
  if (progress) progress(1);
  return rows;
}

std::vector<float> VisionSiglip::project(const std::vector<float>& patches, Compute& compute) const {
  const kernels::Kernels& k = compute.kernels();
  const std::size_t width = weights_.width();
  const std::size_t pool = weights_.pool;
  const std::size_t side = weights_.side() / pool;
  const std::size_t tokens = side * side;
  std::vector<float> pooled(tokens * width);
  compute.each_token(tokens, [&](std::size_t t) {
    float* const to = pooled.data() + t * width;
    for (std::size_t p = 0; p < pool * pool; ++p) {
      const std::size_t row = t / side * pool + p / pool;
      const std::size_t column = t % side * pool + p % pool;
      k.add(patches.data() + (row * weights_.side() + column) * width, to, width);
    }
    k.scale(1 / static_cast<float>(pool * pool), to, width);
    k.rms_norm(to, weights_.soft_norm.data(), weights_.norm_eps, to, width);
  });

  // The file has the matrix transposed, and a matrix product wants its rows.
  const std::size_t hidden = shape_.hidden_size;
  const auto dequantize = k.weights[static_cast<std::size_t>(weights_.projection.type)].dequantize;
  std::vector<float> transposed(hidden * width), line(hidden);
  for (std::size_t i = 0; i < width; ++i) {
    dequantize(weights_.projection.row(i), line.data(), hidden);
    for (std::size_t h = 0; h < hidden; ++h) transposed[h * width + i] = line[h];
  }
  std::vector<float> out(tokens * hidden);
  const auto* bytes = reinterpret_cast<const std::byte*>(transposed.data());
  compute.linear({{Matrix::packed(bytes, DType::f32, hidden, width), out.data()}}, pooled.data(), tokens);
  return out;
}

}  // namespace gemlet
