#include "encoders/vision_weights.hpp"

#include <set>
#include <string>
#include <utility>

namespace gemlet {
namespace {

const std::string block_prefix = "v.blk.";
constexpr std::size_t max_channels = std::size_t{1} << 13;  // published: 3840
// Floats of a map at the largest size; published: 9.4 million behind the stem.
constexpr std::size_t max_map = std::size_t{1} << 26;
constexpr std::size_t largest_picture = 768;

class BlockReader {
 public:
  BlockReader(const Reader& read, std::string prefix) : read_(read), prefix_(std::move(prefix)) {}

  bool has(const char* part) const { return read_.has(name(part)); }

  /// A vector, which older files give as [1, n, 1, 1].
  std::vector<float> vector(const std::string& part, std::size_t size) const {
    const std::string whole = name(part);
    const Tensor* tensor = read_.file().find_tensor(whole);
    if (tensor != nullptr && tensor->rank == 4) return read_.floats(whole, {1, size, 1, 1});
    return read_.floats(whole, {size});
  }

  /// `kernel` 0: as large as the tensor says.
  ConvWeights conv(const std::string& conv, const std::string& norm, std::size_t inputs, std::size_t kernel) const {
    const std::string whole = name(conv);
    const Tensor* tensor = read_.file().find_tensor(whole);
    const bool flat = tensor != nullptr && tensor->rank == 2;
    ConvWeights w;
    w.kernel = kernel;
    const std::size_t outputs = read_.dimension(whole, flat ? 2 : 4, 0, 1, max_channels);
    const std::size_t cols = inputs * kernel * kernel;
    const Tensor& stored =
        flat ? read_.tensor(whole, {outputs, cols}) : read_.tensor(whole, {outputs, inputs, kernel, kernel});
    w.conv = Matrix::packed(stored.data, stored.type, outputs, cols);
    if (!norm.empty()) w.norm = vector(norm, outputs);
    return w;
  }
  ConvWeights conv_and_norm(const std::string& part, std::size_t inputs, std::size_t kernel) const {
    return conv(part + ".conv.weight", part + ".bn.weight", inputs, kernel);
  }
  Matrix pointwise(const std::string& part, std::size_t inputs) const { return conv(part, "", inputs, 1).conv; }

  DepthwiseWeights depthwise(const std::string& conv, const std::string& norm, std::size_t channels) const {
    const std::string whole = name(conv);
    DepthwiseWeights w;
    if (!read_.has(whole)) return w;
    w.kernel = read_.dimension(whole, 4, 3, 1, max_vision_kernel);
    if (w.kernel % 2 == 0)
      read_.fail("tensor " + whole + " has a kernel of " + std::to_string(w.kernel) + ", expected an odd size");
    const std::size_t taps = w.kernel * w.kernel;
    const std::vector<float> stored = read_.floats(whole, {channels, 1, w.kernel, w.kernel});
    w.conv.resize(stored.size());
    for (std::size_t c = 0; c < channels; ++c) {
      for (std::size_t i = 0; i < taps; ++i) w.conv[i * channels + c] = stored[c * taps + i];
    }
    w.norm = vector(norm, channels);
    return w;
  }
  DepthwiseWeights depthwise_and_norm(const std::string& part, std::size_t channels) const {
    return depthwise(part + ".conv.weight", part + ".bn.weight", channels);
  }

  std::string name(const std::string& part) const { return prefix_ + part; }

 private:
  const Reader& read_;
  std::string prefix_;
};

EdgeResidualWeights read_edge_residual(const BlockReader& read, std::size_t& channels) {
  EdgeResidualWeights w;
  w.conv_exp = read.conv("conv_exp.weight", "bn1.weight", channels, 3);
  w.conv_pwl = read.conv("conv_pwl.weight", "bn2.weight", w.conv_exp.conv.rows, 1);
  channels = w.conv_pwl.conv.rows;
  return w;
}

InvertedResidualWeights read_inverted_residual(const BlockReader& read, std::size_t& channels) {
  InvertedResidualWeights w;
  w.dw_start = read.depthwise_and_norm("dw_start", channels);
  w.pw_exp = read.conv_and_norm("pw_exp", channels, 1);
  w.dw_mid = read.depthwise_and_norm("dw_mid", w.pw_exp.conv.rows);
  w.pw_proj = read.conv_and_norm("pw_proj", w.pw_exp.conv.rows, 1);
  channels = w.pw_proj.conv.rows;
  w.gamma = read.vector("layer_scale.gamma", channels);
  return w;
}

MobileAttentionWeights read_attention(const Reader& file, const BlockReader& read, std::size_t channels) {
  MobileAttentionWeights w;
  w.norm = read.vector("norm.weight", channels);
  w.query = read.pointwise("attn.query.proj.weight", channels);
  w.key_down = read.depthwise("attn.key.down_conv.weight", "attn.key.norm.weight", channels);
  w.value_down = read.depthwise("attn.value.down_conv.weight", "attn.value.norm.weight", channels);
  w.key = read.pointwise("attn.key.proj.weight", channels);
  w.value = read.pointwise("attn.value.proj.weight", channels);
  w.output = read.pointwise("attn.output.proj.weight", w.query.rows);
  w.gamma = read.vector("layer_scale.gamma", channels);
  if (w.query.rows % w.key.rows != 0 || w.value.rows != w.key.rows || w.output.rows != channels ||
      w.key_down.present() != w.value_down.present()) {
    file.fail("tensors " + read.name("attn.*") + " do not belong together");
  }
  return w;
}

bool halves(const VisionBlockWeights& block, bool first) {
  if (const auto* w = std::get_if<InvertedResidualWeights>(&block)) return w->dw_mid.present();
  return first && std::holds_alternative<EdgeResidualWeights>(block);
}

/// The blocks of a stage, whose names go to `found`; `channels` are those before it, and become those after it.
std::vector<VisionBlockWeights> read_stage(const Reader& read, std::size_t stage, std::size_t& channels,
                                           std::set<std::string>& found) {
  std::vector<VisionBlockWeights> blocks;
  for (;;) {
    const std::string prefix = block_prefix + std::to_string(stage) + "." + std::to_string(blocks.size()) + ".";
    const BlockReader block(read, prefix);
    if (block.has("conv_exp.weight")) {
      blocks.emplace_back(read_edge_residual(block, channels));
    } else if (block.has("pw_exp.conv.weight")) {
      blocks.emplace_back(read_inverted_residual(block, channels));
    } else if (block.has("attn.query.proj.weight")) {
      blocks.emplace_back(read_attention(read, block, channels));
    } else {
      return blocks;
    }
    const bool first = blocks.size() == 1;
    if (halves(blocks.back(), first) != first) {
      read.fail("block " + prefix + "* " + (first ? "keeps" : "halves") +
                " the size of the map, expected the first block of a stage, and no other, to halve it (dw_mid)");
    }
    found.insert(prefix);
  }
}

/// Fails for a map that would take gigabytes, which a small file can ask for.
void require_room(const Reader& read, const std::string& what, std::size_t channels, std::size_t side) {
  if (channels * side * side <= max_map) return;
  read.fail(what + " of the vision encoder has " + std::to_string(channels) + " channels, expected at most " +
            std::to_string(max_map / (side * side)));
}

/// Fails for a tensor of a block that is not among those found, such as one whose first convolution is missing.
void require_blocks(const Reader& read, const std::set<std::string>& found) {
  for (const Tensor& tensor : read.file().tensors()) {
    if (!tensor.name.starts_with(block_prefix)) continue;
    const std::size_t stage_end = tensor.name.find('.', block_prefix.size());
    const std::size_t block_end = stage_end == std::string::npos ? stage_end : tensor.name.find('.', stage_end + 1);
    if (block_end == std::string::npos || !found.contains(tensor.name.substr(0, block_end + 1))) {
      read.fail("tensor " + tensor.name +
                " belongs to a block that is not whole, or does not follow the others: expected conv_exp, pw_exp.conv "
                "or attn.query.proj beside it");
    }
  }
}

}  // namespace

VisionWeights read_vision_weights(const Reader& read) {
  const BlockReader top(read, "v.");
  VisionWeights w;
  w.stem = top.conv("conv_stem.conv.weight", "conv_stem.bn.weight", 3, 3);
  std::size_t channels = w.stem.conv.rows;
  w.stem_bias =
      top.has("conv_stem.conv.bias") ? top.vector("conv_stem.conv.bias", channels) : std::vector<float>(channels);
  std::size_t side = largest_picture / 2;
  require_room(read, "the stem", channels, side);
  std::size_t finer = channels;
  std::set<std::string> found;
  for (std::size_t stage = 0;; ++stage) {
    const std::size_t before = channels;
    std::vector<VisionBlockWeights> blocks = read_stage(read, stage, channels, found);
    if (blocks.empty()) break;
    side = (side + 1) / 2;
    require_room(read, "stage " + std::to_string(stage), channels, side);
    w.stages.push_back(std::move(blocks));
    finer = before;
  }
  require_blocks(read, found);
  w.fusion_exp = top.conv_and_norm("msfa.ffn.pw_exp", finer + channels, 1);
  w.fusion_proj = top.conv_and_norm("msfa.ffn.pw_proj", w.fusion_exp.conv.rows, 1);
  w.fusion_norm = top.vector("msfa.norm.weight", w.fusion_proj.conv.rows);
  return w;
}

}  // namespace gemlet
