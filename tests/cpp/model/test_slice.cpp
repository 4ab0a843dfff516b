#include <string>
#include <vector>

#include "check.hpp"
#include "gemlet/gemlet.hpp"
#include "gguf_builder.hpp"
#include "model/slice.hpp"
#include "tiny_gemma3n.hpp"

using gemlet::apply_slice;
using gemlet::Engine;
using gemlet::Error;
using gemlet::KeptLayer;
using gemlet::Slice;
using gemlet::SliceableLayer;

namespace {

/// Eight layers 64 wide in blocks of 32; the last three read the keys and values of layers 3 and 4.
std::vector<SliceableLayer> layers() {
  std::vector<SliceableLayer> all;
  for (std::size_t i = 0; i < 8; ++i)
    all.push_back({.index = i, .kv_layer = i < 5 ? i : 4 - i % 2, .width = 64, .block = 32});
  return all;
}

std::vector<std::size_t> places(const std::vector<KeptLayer>& kept) {
  std::vector<std::size_t> out;
  for (const KeptLayer& layer : kept) out.push_back(layer.place);
  return out;
}

std::vector<std::size_t> widths(const std::vector<KeptLayer>& kept) {
  std::vector<std::size_t> out;
  for (const KeptLayer& layer : kept) out.push_back(layer.width);
  return out;
}

void refuses(const Slice& slice, const std::string& what) {
  const std::string message = check::throws<Error>([&] { apply_slice(slice, layers()); });
  check::that(message.starts_with("slice: ") && message.find(what) != std::string::npos, message);
}

}  // namespace

TEST("a slice as text") {
  const Slice e2b = Slice::parse("e2b");
  CHECK(e2b.ffn_share == 0.5 && e2b.dropped_layers == std::vector<int>({20, 21, 22, 23, 24}) && e2b.of_layers == 35);
  CHECK(Slice::parse("0.25").ffn_share == 0.25);
  CHECK(Slice::parse("8192").ffn_widths == std::vector<int>({8192}));
  const Slice both = Slice::parse("ffn=64x3,32:drop=1,3-5");
  CHECK(both.ffn_widths == std::vector<int>({64, 64, 64, 32}) && both.ffn_share == 1);
  CHECK(both.dropped_layers == std::vector<int>({1, 3, 4, 5}) && both.of_layers == 0);
  CHECK(Slice::parse("drop=7:ffn=0.5").ffn_share == 0.5);
  for (const char* bad : {"", "e4b", "0.5x", "64x", "64x0", "64x9999", "64,", "ffn=", "drop=5-3", "drop=-1", "drop=1-",
                          "drop=99999", "drop=1-2-3", "width=3", "ffn=64:", "ffn=1e9999.", "drop=1 "}) {
    const std::string message = check::throws<Error>([&] { Slice::parse(bad); });
    check::that(message.starts_with("slice: found \"") && message.find("expected") != std::string::npos, message);
  }
}

TEST("what a slice keeps") {
  CHECK(places(apply_slice({}, layers())) == std::vector<std::size_t>({0, 1, 2, 3, 4, 5, 6, 7}));
  CHECK(widths(apply_slice({}, layers())) == std::vector<std::size_t>(8, 64));
  const auto kept = apply_slice({.ffn_share = 0.5, .dropped_layers = {6, 1, 6}}, layers());
  CHECK(places(kept) == std::vector<std::size_t>({0, 2, 3, 4, 5, 7}));
  CHECK(widths(kept) == std::vector<std::size_t>(6, 32));
  CHECK(widths(apply_slice({.ffn_widths = {32}}, layers())) == std::vector<std::size_t>(8, 32));
  const std::vector<int> each = {32, 64, 64, 64, 32};
  const auto chosen = apply_slice({.ffn_widths = each, .dropped_layers = {5, 6, 7}}, layers());
  CHECK(widths(chosen) == std::vector<std::size_t>(each.begin(), each.end()));
  // Nobody reads the keys and values of layers 3 and 4 once their readers are gone.
  CHECK(places(apply_slice({.dropped_layers = {3, 4, 5, 6, 7}}, layers())).size() == 3);
  CHECK(apply_slice({.of_layers = 8}, layers()).size() == 8);
}

TEST("a share that no binary fraction is equal to, and a width of no whole blocks") {
  std::vector<SliceableLayer> layer = {{.index = 0, .kv_layer = 0, .width = 100, .block = 1}};
  CHECK(apply_slice({.ffn_share = 0.29}, layer)[0].width == 29);
  layer[0].block = 32;
  CHECK(apply_slice({}, layer)[0].width == 100);
}

TEST("what a slice cannot be") {
  refuses({.ffn_widths = {40}},
          "layer 0: a feed-forward width of 40 was asked for, expected a multiple of 32 up to the whole width of 64, "
          "such as 32 or 64");
  refuses({.ffn_share = 0.3}, "a feed-forward width of 19.2 was asked for, expected a multiple of 32");
  refuses({.ffn_widths = {0}}, "a feed-forward width of 0");
  refuses({.ffn_widths = {-32}}, "a feed-forward width of -32");
  refuses({.ffn_widths = {96}}, "a feed-forward width of 96");
  refuses({.ffn_widths = {64, 64, 64, 64, 64, 64, 64, 65}}, "layer 7: a feed-forward width of 65");
  refuses({.ffn_widths = {32, 32}}, "there are 2 feed-forward widths, expected one, or 8");
  refuses({.ffn_widths = {32, 32, 32, 32, 32, 32, 32, 32}, .dropped_layers = {0}},
          "8 feed-forward widths, expected one, or 7");
  for (const double share : {0.0, -1.0, 1.01, std::numeric_limits<double>::quiet_NaN()}) {
    refuses({.ffn_share = share}, "expected more than 0 and at most 1");
  }
  refuses({.dropped_layers = {8}}, "layer 8 is to be dropped, the model has layers 0 to 7");
  refuses({.dropped_layers = {-1}}, "layer -1 is to be dropped");
  refuses({.dropped_layers = {4}}, "layer 4 cannot be dropped: layer 6 reads its keys and values");
  refuses({.dropped_layers = {0, 1, 2, 3, 4, 5, 6, 7}}, "all layers are dropped");
  refuses(Slice::parse("e2b"), "of a model of 35 layers, this one has 8");
}

TEST("an engine says what it is a slice of, and refuses what the blocks of its file do not allow") {
  const gguf::TemporaryDirectory directory;
  tiny::Shape shape;
  shape.ffn = 512;
  const auto path = directory.write("tiny.gguf", tiny::gemma3n(shape).build().bytes);
  const auto load = [&](const Slice& slice) {
    gemlet::EngineOptions options;
    options.threads = 1;
    options.slice = slice;
    return Engine::load(path, options);
  };
  const auto whole = load({});
  const auto part = load({.ffn_widths = {256, 256, 256, 512}, .dropped_layers = {3}});
  CHECK(part->info().layers == 4 && part->info().file_layers == 5);
  CHECK(std::get<std::int64_t>(part->info().hyperparameters.at("num_kv_shared_layers")) == 1);
  const auto of_layers = [&](int gemlet::LayerInfo::* field) {
    std::vector<int> values;
    for (const gemlet::LayerInfo& layer : part->info().layer_info) values.push_back(layer.*field);
    return values;
  };
  CHECK(of_layers(&gemlet::LayerInfo::index) == std::vector<int>({0, 1, 2, 4}));
  CHECK(of_layers(&gemlet::LayerInfo::intermediate_size) == std::vector<int>({256, 256, 256, 512}));
  CHECK(std::get<std::vector<std::string>>(part->info().hyperparameters.at("layer_types")) ==
        std::vector<std::string>({"sliding_attention", "sliding_attention", "full_attention", "full_attention"}));
  CHECK(part->info().fingerprint != whole->info().fingerprint);
  CHECK(load({.ffn_widths = {512}})->info().fingerprint == whole->info().fingerprint);
  CHECK(part->info().fingerprint !=
        load({.ffn_widths = {512, 256, 256, 256}, .dropped_layers = {3}})->info().fingerprint);

  for (const gemlet::TensorInfo& tensor : part->info().tensors) {
    CHECK(!tensor.name.starts_with("blk.3."));
    if (tensor.name == "blk.1.ffn_down.weight") {
      CHECK(tensor.shape == std::vector<std::int64_t>({64, 256}) && tensor.bytes == 64 * 176);  // Q5_K
    }
    if (tensor.name == "blk.1.ffn_up.weight") CHECK(tensor.shape == std::vector<std::int64_t>({256, 64}));
  }
  CHECK(part->info().tensors.size() < whole->info().tensors.size());
  const std::string message = check::throws<Error>([&] { load({.ffn_widths = {288}}); });
  CHECK(message.find("layer 0: a feed-forward width of 288 was asked for, expected a multiple of 256") !=
        std::string::npos);
}

int main() { return check::run_tests(); }
