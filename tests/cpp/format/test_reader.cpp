#include <limits>
#include <string>

#include "check.hpp"
#include "format/reader.hpp"
#include "gemlet/error.hpp"
#include "gguf_builder.hpp"

namespace {

using gemlet::Error;
using gemlet::GgufFile;
using gemlet::Reader;

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

/// A file of the architecture "toy", read.
struct Opened {
  explicit Opened(const gguf::Builder& builder) : file(directory.write("toy.gguf", builder.build().bytes)) {}

  gguf::TemporaryDirectory directory;
  GgufFile file;
  Reader read{file, "toy"};
};

std::string refusal(const std::function<void()>& body) {
  const std::string message = check::throws<Error>(body);
  CHECK(contains(message, "toy.gguf: "));
  return message;
}

gguf::Builder with_tensors() {
  gguf::Builder builder;
  builder.add_floats("a", {2, 3}, {1, 2, 3, 4, 5, 6});
  builder.add_floats("stack", {2, 1, 2}, {1, 2, 3, 4});
  builder.add_floats("bad", {2}, {1, std::numeric_limits<float>::quiet_NaN()});
  builder.add_tensor("halves", 1, {2}, std::string("\x00\x3c\x00\xc0", 4));  // 1 and -2
  return builder;
}

}  // namespace

TEST("a size is looked up under the architecture and checked") {
  gguf::Builder builder;
  builder.add_u32("toy.block_count", 7);
  builder.add_u32("other.width", 7);
  const Opened toy(builder);
  CHECK(toy.read.size("block_count", 1, 7) == 7);
  CHECK(contains(refusal([&] { toy.read.size("block_count", 1, 6); }), "toy.block_count is 7, expected 1 to 6"));
  CHECK(contains(refusal([&] { toy.read.size("block_count", 8, 9); }), "toy.block_count is 7, expected 8 to 9"));
  CHECK(contains(refusal([&] { toy.read.size("width", 1, 9); }), "\"toy.width\": missing"));
  CHECK(!toy.read.has_key("width") && toy.read.has_key("block_count"));
}

TEST("a missing size takes the default, which is checked too") {
  const Opened toy{gguf::Builder()};
  CHECK(toy.read.size("width", 1, 9, 4) == 4);
  CHECK(contains(refusal([&] { toy.read.size("width", 1, 9, 0); }),
                 "toy.width is missing; its default is 0, expected 1 to 9"));
  CHECK(toy.read.sizes("width", 2, 1, 9, 4) == (std::vector<std::size_t>{4, 4}));
  CHECK(toy.read.positive("base", 2.5F) == 2.5F);
  CHECK(toy.read.flag("on", true) && !toy.read.flag("on", false));
  CHECK(toy.read.string("kind", "none") == "none");
}

TEST("a default does not hide a key that is out of range or of another type") {
  gguf::Builder builder;
  builder.add_u32("toy.width", 10);
  builder.add_string("toy.base", "ten");
  builder.add_string("toy.on", "yes");
  builder.add_u32("toy.kind", 1);
  const Opened toy(builder);
  refusal([&] { toy.read.size("width", 1, 9, 4); });
  refusal([&] { toy.read.sizes("width", 2, 1, 9, 4); });
  refusal([&] { toy.read.positive("base", 1); });
  refusal([&] { toy.read.flag("on", true); });
  refusal([&] { toy.read.string("kind", ""); });
}

TEST("sizes of layers are an array or one number for all") {
  gguf::Builder builder;
  builder.add_u32("toy.attention.head_count_kv", 2);
  builder.add_array<std::int32_t>("toy.feed_forward_length", gguf::i32, {3, 4, 5});
  const Opened toy(builder);
  CHECK(toy.read.sizes("attention.head_count_kv", 3, 1, 2) == (std::vector<std::size_t>{2, 2, 2}));
  CHECK(toy.read.sizes("feed_forward_length", 3, 1, 5) == (std::vector<std::size_t>{3, 4, 5}));
  CHECK(contains(refusal([&] { toy.read.sizes("feed_forward_length", 3, 1, 4); }),
                 "toy.feed_forward_length of layer 2 is 5, expected 1 to 4"));
  CHECK(contains(refusal([&] { toy.read.sizes("feed_forward_length", 2, 1, 5); }), "expected 2 values, found 3"));
}

TEST("other converters' spellings are found, after the standard one") {
  for (const auto& spelling : {std::pair{"attention.key_length", "head_dim"},
                               {"rope.freq_base", "rope.global.freq_base"},
                               {"rope.freq_base_swa", "rope.local.freq_base"},
                               {"rope.freq_base_swa", "rope.freq_base_local"},
                               {"rope.freq_base_swa", "rope.local_freq_base"}}) {
    const char* standard = spelling.first;
    const char* other = spelling.second;
    const bool number = std::string_view(other) != "head_dim";
    const auto add = [&](gguf::Builder& builder, std::string_view key, std::uint32_t value) {
      const std::string name = "toy." + std::string(key);
      number ? builder.add_f32(name, static_cast<float>(value)) : builder.add_u32(name, value);
    };
    const auto read = [&](const Reader& reader) {
      return number ? static_cast<std::size_t>(reader.positive(standard)) : reader.size(standard, 1, 9);
    };
    gguf::Builder builder;
    add(builder, other, 3);
    CHECK(read(Opened(builder).read) == 3);
    CHECK(Opened(builder).read.has_key(standard));
    add(builder, standard, 4);
    CHECK(read(Opened(builder).read) == 4);
  }
  gguf::Builder wrong;
  wrong.add_u32("toy.head_dim", 10);
  const Opened toy(wrong);
  CHECK(contains(refusal([&] { toy.read.size("attention.key_length", 1, 9); }), "toy.head_dim is 10"));
}

TEST("positive numbers, and soft caps that a model may not have") {
  gguf::Builder builder;
  builder.add_f32("toy.base", 10000);
  builder.add_f32("toy.zero", 0);
  builder.add_f32("toy.negative", -1);
  builder.add_f32("toy.infinite", std::numeric_limits<float>::infinity());
  const Opened toy(builder);
  CHECK(toy.read.positive("base") == 10000);
  CHECK(contains(refusal([&] { toy.read.positive("zero"); }), "toy.zero is 0.000000, expected a positive number"));
  refusal([&] { toy.read.positive("negative", 1); });
  refusal([&] { toy.read.positive("infinite"); });
  CHECK(toy.read.optional_positive("base") == 10000.0F);
  CHECK(!toy.read.optional_positive("zero") && !toy.read.optional_positive("missing"));
  refusal([&] { toy.read.optional_positive("negative"); });
}

TEST("the local layers are an array of bools, a number, or the architecture's own period") {
  const std::string key = "toy.attention.sliding_window_pattern";
  const auto pattern = [&](const std::function<void(gguf::Builder&)>& add) {
    gguf::Builder builder;
    add(builder);
    return Opened(builder).read.sliding_layers(4, 3);
  };
  CHECK(pattern([](gguf::Builder&) {}) == (std::vector<bool>{true, true, false, true}));
  CHECK(pattern([&](gguf::Builder& b) { b.add_u32(key, 2); }) == (std::vector<bool>{true, false, true, false}));
  CHECK(pattern([&](gguf::Builder& b) { b.add_u32(key, 1); }) == std::vector<bool>(4, false));
  CHECK(pattern([&](gguf::Builder& b) { b.add_u32(key, 0); }) == std::vector<bool>(4, true));
  CHECK(pattern([&](gguf::Builder& b) { b.add_array<std::uint8_t>(key, gguf::boolean, {1, 0, 0, 1}); }) ==
        (std::vector<bool>{true, false, false, true}));
  refusal([&] { pattern([&](gguf::Builder& b) { b.add_array<std::uint8_t>(key, gguf::boolean, {1, 0}); }); });
  refusal([&] { pattern([&](gguf::Builder& b) { b.add_string(key, "local"); }); });
}

TEST("tensors are checked for their shape") {
  const Opened toy(with_tensors());
  const gemlet::Matrix matrix = toy.read.matrix("a", 3, 2);
  CHECK(matrix.rows == 3 && matrix.cols == 2 && matrix.row_bytes == 8);
  CHECK(toy.read.has("a") && !toy.read.has("b"));
  CHECK(contains(refusal([&] { toy.read.matrix("a", 2, 3); }), "tensor a has shape [3, 2], expected [2, 3]"));
  CHECK(contains(refusal([&] { toy.read.matrix("b", 2, 3); }), "tensor b is missing"));
  CHECK(contains(refusal([&] { toy.read.tensor("a", {3, 2, 1}); }), "expected [3, 2, 1]"));
  CHECK(toy.read.dimension("a", 2, 0, 1, 3) == 3 && toy.read.dimension("a", 2, 1, 1, 3) == 2);
  CHECK(contains(refusal([&] { toy.read.dimension("a", 2, 0, 1, 2); }), "rows of a is 3, expected 1 to 2"));
  CHECK(contains(refusal([&] { toy.read.dimension("a", 3, 0, 1, 9); }), "shape [3, 2], expected 3 dimensions"));
  CHECK(contains(refusal([&] { toy.read.dimension("b", 3, 0, 1, 9); }), "tensor b is missing"));
}

TEST("a stack is cut into its matrices") {
  const Opened toy(with_tensors());
  const std::vector<gemlet::Matrix> stack = toy.read.stack("stack", 2, 1, 2);
  CHECK(stack.size() == 2 && stack[1].data == stack[0].data + 8);
}

TEST("floats are copied out whatever their type, and finite") {
  const Opened toy(with_tensors());
  CHECK(toy.read.floats("a", {3, 2}) == (std::vector<float>{1, 2, 3, 4, 5, 6}));
  CHECK(toy.read.floats("halves", {2}) == (std::vector<float>{1, -2}));
  CHECK(contains(refusal([&] { toy.read.floats("bad", {2}); }), "tensor bad has values that are not finite numbers"));
}

TEST("rows that stay in the file are read from it") {
  const Opened toy(with_tensors());
  const gemlet::FileRows rows = toy.read.rows("a", 3, 2);
  float row[2] = {};
  rows.read(2, reinterpret_cast<std::byte*>(row));
  CHECK(row[0] == 5 && row[1] == 6);
}

int main() { return check::run_tests(); }
