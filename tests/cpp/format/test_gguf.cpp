#include <chrono>
#include <cmath>
#include <limits>

#include "check.hpp"
#include "format/gguf.hpp"
#include "gemlet/error.hpp"
#include "gguf_builder.hpp"
#include "tiny_gemma3n.hpp"

using gemlet::Error;
using gemlet::GgufFile;

namespace {

/// One key of each kind that the typed getters tell apart.
gguf::Builder sample() {
  gguf::Builder file;
  file.scalar("u8", gguf::u8, std::uint8_t{200});
  file.scalar("i8", gguf::i8, std::int8_t{-5});
  file.scalar("u16", gguf::u16, std::uint16_t{65535});
  file.scalar("i16", gguf::i16, std::int16_t{1234});
  file.add_u32("u32", 4294967295U);
  file.scalar("i32", gguf::i32, std::int32_t{-1});
  file.scalar("u64", gguf::u64, std::uint64_t{4294967296U});
  file.scalar("i64", gguf::i64, std::int64_t{7});
  file.add_f32("f32", 1.5F);
  file.scalar("f64", gguf::f64, 1e300);
  file.add_f32("nan", std::numeric_limits<float>::quiet_NaN());
  file.add_bool("yes", true);
  file.add_string("text", "caf\xc3\xa9");
  file.add_string("empty", "");
  file.add_strings("strings", {"a", "", "\xff"});
  file.add_array<std::int8_t>("integers", gguf::i8, {-1, 2, 3});
  file.add_array<std::uint64_t>("counts", gguf::u64, {1, 2, std::uint64_t{1} << 40});
  file.add_array<float>("floats", gguf::f32, {0.5F, -std::numeric_limits<float>::infinity()});
  file.add_array<double>("doubles", gguf::f64, {0.5, 1e300});
  file.add_array<std::uint8_t>("bools", gguf::boolean, {1, 0, 1});
  file.add_array<float>("none", gguf::f32, {});
  file.add_tensor("one.weight", 0, {3}, std::string(12, 'x'));
  file.add_tensor("two.weight", 2, {64, 5}, std::string(180, 'y'));  // Q4_0: 2 blocks of 18 bytes a row
  return file;
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

/// What one of GgufFile's getters says about a key.
std::string message(const std::function<void()>& body) { return check::throws<Error>(body); }

TEST("tensors come in file order with their shape outermost first") {
  const gguf::TemporaryDirectory directory;
  const GgufFile file(directory.write("a.gguf", sample().build().bytes));
  CHECK(file.tensors().size() == 2);
  const gemlet::Tensor& one = file.tensors()[0];
  const gemlet::Tensor& two = file.tensors()[1];
  CHECK(one.name == "one.weight" && one.rank == 1 && one.shape[0] == 3 && one.elements() == 3);
  CHECK(two.name == "two.weight" && two.rank == 2 && two.type == gemlet::DType::q4_0);
  CHECK(two.shape[0] == 5 && two.shape[1] == 64 && two.cols() == 64 && two.bytes() == 180);
  CHECK(static_cast<char>(one.data[0]) == 'x' && static_cast<char>(one.data[11]) == 'x');
  CHECK(static_cast<char>(two.data[0]) == 'y' && static_cast<char>(two.data[179]) == 'y');
  CHECK(file.find_tensor("two.weight") == &two && file.find_tensor("three.weight") == nullptr);
}

TEST("tensors of every weight type are read") {
  const gguf::TemporaryDirectory directory;
  for (std::uint32_t id = 0; id < gemlet::dtype_table_size; ++id) {
    const gemlet::DTypeTraits* stored = gemlet::find_dtype(id);
    if (stored == nullptr) continue;
    gguf::Builder builder;
    builder.add_tensor("w", id, {2 * stored->elements, 3}, std::string(6 * stored->bytes, 'w'));
    const GgufFile file(directory.write("w.gguf", builder.build().bytes));
    const gemlet::Tensor* w = file.find_tensor("w");
    CHECK(w != nullptr && static_cast<std::uint32_t>(w->type) == id);
    CHECK(w->bytes() == 6 * stored->bytes && w->row_bytes() == 2 * stored->bytes);
    builder = gguf::Builder();
    builder.add_tensor("w", id, {2 * stored->elements + 1, 3}, std::string(9 * stored->bytes, 'w'));
    if (stored->elements == 1) continue;
    const std::string path = directory.write("part.gguf", builder.build().bytes);
    const std::string said = message([&] { GgufFile{path}; });
    CHECK(contains(said, "whole blocks of " + std::to_string(stored->elements)) && contains(said, stored->name));
  }
}

TEST("typed getters return what the file says") {
  const gguf::TemporaryDirectory directory;
  const GgufFile file(directory.write("a.gguf", sample().build().bytes));
  CHECK(file.get_u32("u8") == 200 && file.get_u32("u16") == 65535 && file.get_u32("u32") == 4294967295U);
  CHECK(file.get_u32("i16") == 1234 && file.get_u32("i64") == 7);
  CHECK(file.get_f32("f32") == 1.5F && file.find_f32("f32", 2.0F) == 1.5F && file.find_f32("absent", 2.0F) == 2.0F);
  CHECK(file.find_u32("absent", 9) == 9 && file.find_u32("i64", 9) == 7);
  CHECK(file.find_bool("yes", false) && file.find_bool("absent", true));
  CHECK(file.get_string("text") == "caf\xc3\xa9" && file.get_string("empty").empty());
  CHECK(file.find_string("absent", "else") == "else" && file.find_string("text", "") == "caf\xc3\xa9");
  CHECK((file.get_strings("strings") == gemlet::GgufStrings{"a", "", "\xff"}));
  CHECK((file.get_integers("integers") == std::vector<std::int64_t>{-1, 2, 3}));
  CHECK(file.get_integers("counts")[2] == std::int64_t{1} << 40);
  CHECK(file.get_numbers("doubles")[1] == 1e300 && file.get_numbers("none").empty());
  CHECK(std::isinf(file.get_f32s("floats", 2)[1]));
  CHECK((file.get_bools("bools", 3) == std::vector<bool>{true, false, true}));
  CHECK(file.contains("none") && !file.contains("absent"));
}

TEST("a scalar stands for equal values of every layer") {
  const gguf::TemporaryDirectory directory;
  const GgufFile file(directory.write("a.gguf", sample().build().bytes));
  CHECK((file.get_u32s("i64", 3) == std::vector<std::uint32_t>{7, 7, 7}));
  CHECK((file.get_f32s("f32", 2) == std::vector<float>{1.5F, 1.5F}));
  CHECK((file.get_bools("yes", 2) == std::vector<bool>{true, true}));
}

TEST("typed getters name the key, what they expect and what they found") {
  const gguf::TemporaryDirectory directory;
  const GgufFile file(directory.write("a.gguf", sample().build().bytes));
  const auto says = [](const std::function<void()>& body, std::initializer_list<std::string_view> parts,
                       check::Where where = check::Where::current()) {
    const std::string text = message(body);
    for (const std::string_view part : parts) {
      check::that(contains(text, part), "\"" + text + "\" lacks \"" + std::string(part) + "\"", where);
    }
  };
  says([&] { file.get_u32("absent"); }, {"a.gguf", "\"absent\"", "missing"});
  says([&] { file.get_u32("i32"); }, {"\"i32\"", "0 to 4294967295", "-1"});
  says([&] { file.get_u32("u64"); }, {"\"u64\"", "4294967296"});
  says([&] { file.find_u32("text", 1); }, {"\"text\"", "\"caf\\xc3\\xa9\""});
  says([&] { file.get_u32("yes"); }, {"\"yes\"", "true"});
  says([&] { file.get_f32("u8"); }, {"\"u8\"", "finite float", "200"});
  says([&] { file.get_f32("f64"); }, {"\"f64\"", "finite float"});
  says([&] { file.find_f32("nan", 0); }, {"\"nan\"", "finite float", "nan"});
  says([&] { file.find_bool("u8", false); }, {"\"u8\"", "a bool", "200"});
  says([&] { file.get_string("strings"); }, {"\"strings\"", "a string", "an array of 3 strings"});
  says([&] { file.get_strings("text"); }, {"\"text\"", "an array of strings"});
  says([&] { file.get_integers("bools"); }, {"\"bools\"", "an array of integers", "an array of 3 bools"});
  says([&] { file.get_numbers("integers"); }, {"\"integers\"", "an array of numbers", "an array of 3 integers"});
  says([&] { file.get_u32s("integers", 3); }, {"\"integers\"", "element 0", "-1"});
  says([&] { file.get_u32s("counts", 2); }, {"\"counts\"", "expected 2 values, found 3"});
  says([&] { file.get_u32s("floats", 2); }, {"\"floats\"", "an array of 2 numbers"});
  says([&] { file.get_f32s("doubles", 2); }, {"\"doubles\"", "element 1"});
  says([&] { file.get_bools("integers", 3); }, {"\"integers\"", "a bool"});
}

TEST("version 2 is read as version 3") {
  const gguf::TemporaryDirectory directory;
  gguf::Builder builder = sample();
  builder.version = 2;
  CHECK(GgufFile(directory.write("a.gguf", builder.build().bytes)).tensors().size() == 2);
}

TEST("another alignment moves the data") {
  const gguf::TemporaryDirectory directory;
  for (const std::uint32_t alignment : {8U, 64U, 4096U}) {
    gguf::Builder builder = sample();
    builder.alignment = alignment;
    builder.add_u32("general.alignment", alignment);
    const GgufFile file(directory.write("a.gguf", builder.build().bytes));
    CHECK(static_cast<char>(file.find_tensor("two.weight")->data[179]) == 'y');
  }
}

TEST("bytes after the last tensor are left alone") {
  const gguf::TemporaryDirectory directory;
  CHECK(GgufFile(directory.write("a.gguf", sample().build().bytes + "trailing")).tensors().size() == 2);
}

TEST("a file without tensors, and one without metadata, are files") {
  const gguf::TemporaryDirectory directory;
  gguf::Builder builder;
  CHECK(GgufFile(directory.write("a.gguf", builder.build().bytes)).tensors().empty());
  builder.add_u32("a", 1);
  CHECK(GgufFile(directory.write("b.gguf", builder.build().bytes)).get_u32("a") == 1);
}

TEST("the tiny model holds the types of floats and the commonest quantised ones") {
  using gemlet::DType;
  const gguf::TemporaryDirectory directory;
  const GgufFile file(directory.write("tiny.gguf", tiny::gemma3n().build().bytes));
  bool seen[gemlet::dtype_table_size] = {};
  for (const gemlet::Tensor& tensor : file.tensors()) seen[static_cast<std::size_t>(tensor.type)] = true;
  for (const DType type :
       {DType::f32, DType::f16, DType::bf16, DType::q4_0, DType::q8_0, DType::q4_k, DType::q5_k, DType::q6_k}) {
    CHECK(seen[static_cast<std::size_t>(type)]);
  }
}

TEST("a vocabulary of the published size is read in passing") {
  const gguf::TemporaryDirectory directory;
  gguf::Builder builder;
  std::vector<std::string> tokens;
  for (int i = 0; i < 262144; ++i) tokens.push_back("token" + std::to_string(i));
  builder.add_strings("tokenizer.ggml.tokens", tokens);
  builder.add_array("tokenizer.ggml.scores", gguf::f32, std::vector<float>(tokens.size(), 1.0F));
  builder.add_array("tokenizer.ggml.token_type", gguf::i32, std::vector<std::int32_t>(tokens.size(), 1));
  const auto path = directory.write("a.gguf", builder.build().bytes);
  const auto start = std::chrono::steady_clock::now();
  const GgufFile file(path);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  CHECK(file.get_strings("tokenizer.ggml.tokens").back() == "token262143");
  CHECK(seconds.count() < 2);  // 0.013 s where it was written; the room is for sanitizers and emulators
}

TEST("quote() shows any bytes as printable ASCII") {
  CHECK(gemlet::quote("plain") == "\"plain\"");
  CHECK(gemlet::quote("a\"b\\c") == "\"a\\\"b\\\\c\"");
  CHECK(gemlet::quote(std::string_view("\0\x1b[2J\xff", 6)) == "\"\\x00\\x1b[2J\\xff\"");
  CHECK(gemlet::quote(std::string(100, 'a')) == "\"" + std::string(80, 'a') + "...\"");
}

}  // namespace

int main() { return check::run_tests(); }
