#include <initializer_list>

#include "check.hpp"
#include "format/gguf.hpp"
#include "gemlet/error.hpp"
#include "gguf_builder.hpp"

// Each bad file is refused with a message that names the field, what was expected and what was found.

using gemlet::Error;
using gemlet::GgufFile;
using Parts = std::initializer_list<std::string_view>;
using check::Where;

namespace {

gguf::Builder sample() {
  gguf::Builder file;
  file.add_string("general.architecture", "gemma3n");
  file.add_u32("general.alignment", 32);
  file.add_bool("flag", true);
  file.add_array<float>("numbers", gguf::f32, {1.0F, 2.0F});
  file.add_array<std::uint8_t>("flags", gguf::boolean, {1, 0});
  file.add_strings("tokens", {"hello", "world"});
  file.add_tensor("one.weight", 0, {4, 3}, std::string(48, 'x'));
  file.add_tensor("two.weight", 2, {64, 5}, std::string(180, 'y'));
  file.add_tensor("three.weight", 8, {32}, std::string(34, 'z'));
  return file;
}

void refuses(std::string_view bytes, Error::Kind kind, Parts parts, Where where = Where::current()) {
  const gguf::TemporaryDirectory directory;
  const auto path = directory.write("bad.gguf", bytes);
  try {
    const GgufFile file(path);
  } catch (const Error& error) {
    const std::string text = error.what();
    check::that(error.kind() == kind, "another kind of error: " + text, where);
    check::that(text.starts_with(path.string() + ": "), "the message does not start with the path: " + text, where);
    for (const std::string_view part : parts) {
      check::that(text.find(part) != std::string::npos, "\"" + text + "\" lacks \"" + std::string(part) + "\"", where);
    }
    return;
  }
  check::that(false, "the file was read", where);
}

void refuses(const gguf::Builder& builder, Parts parts, Where where = Where::current()) {
  refuses(builder.build().bytes, Error::Kind::format, parts, where);
}

/// The sample with one number replaced.
std::string with(std::string_view field, std::uint64_t value) {
  gguf::Image image = sample().build();
  image.set(field, value);
  return image.bytes;
}

void refuses_field(std::string_view field, std::uint64_t value, Parts parts, Where where = Where::current()) {
  refuses(with(field, value), Error::Kind::format, parts, where);
}

constexpr std::uint64_t huge = 0xffffffffffffffff;

TEST("the sample is a good file") {
  const gguf::TemporaryDirectory directory;
  CHECK(GgufFile(directory.write("good.gguf", sample().build().bytes)).tensors().size() == 3);
}

TEST("header") {
  refuses("GGU", Error::Kind::format, {"header", "truncated", "magic", "4 bytes", "3 more"});
  refuses("GGUF", Error::Kind::format, {"header", "truncated", "version", "0 more"});
  refuses("GGML\3\0\0\0", Error::Kind::format, {"magic", "\"GGML\"", "\"GGUF\""});
  refuses_field("header.magic", 0x1b46551b, {"magic", "\"\\x1bUF\\x1b\""});
  refuses(with("header.version", 0x03000000), Error::Kind::unsupported, {"big-endian", "little-endian"});
  refuses(with("header.version", 1), Error::Kind::unsupported, {"version is 1", "expected 2 or 3"});
  refuses(with("header.version", 0), Error::Kind::unsupported, {"version is 0", "expected 2 or 3"});
  refuses(with("header.version", 4), Error::Kind::unsupported, {"version is 4", "expected 2 or 3"});
  refuses_field("header.tensor_count", huge, {"tensor count is 18446744073709551615", "bytes each"});
  refuses_field("header.metadata_count", huge, {"metadata count is 18446744073709551615", "bytes each"});
}

TEST("counts beyond any model") {
  gguf::Builder builder = sample();
  builder.tensors.back() = {"three.weight", 0, {1 << 20}, std::string(4 << 20, 'z')};
  gguf::Image image = builder.build();
  image.set("header.tensor_count", 70000);
  refuses(image.bytes, Error::Kind::unsupported, {"tensor count is 70000", "at most 65536"});
  image = builder.build();
  image.set("header.metadata_count", 70000);
  refuses(image.bytes, Error::Kind::unsupported, {"metadata count is 70000", "at most 65536"});
}

TEST("counts that do not match the entries") {
  refuses_field("header.tensor_count", 4, {"tensor 3", "tensor name length"});    // read from the data
  refuses_field("header.metadata_count", 7, {"tensor 0", "tensor name length"});  // read from inside a tensor's entry
  refuses_field("header.metadata_count", 5, {"tensor \"tokens\"", "dimensions is 9"});  // a key read as a tensor
}

TEST("keys") {
  refuses_field("general.architecture:key_length", huge, {"metadata pair 0", "key length", "1 to 65535"});
  refuses_field("general.architecture:key_length", 0, {"metadata pair 0", "key length is 0"});
  refuses_field("flag:key_length", 60000, {"metadata pair 2", "truncated", "key", "60000 bytes"});
  for (const char bad : {'\0', '\x1b', '\n', '\x7f', '\xff'}) {
    gguf::Builder builder = sample();
    builder.pair("flag").key = std::string("fl") + bad + "g";
    refuses(builder, {"metadata pair 2", "key \"fl\\x", "printable ASCII"});
  }
  gguf::Builder builder = sample();
  builder.pair("flag").key = "general.architecture";
  refuses(builder, {"metadata \"general.architecture\"", "duplicate key"});
}

TEST("values") {
  refuses_field("flag:type", 13, {"metadata \"flag\"", "value type is 13", "0 to 12"});
  refuses_field("flag:type", 0xffffffff, {"metadata \"flag\"", "value type is 4294967295"});
  refuses_field("flag:value", 2, {"metadata \"flag\"", "bool value is 2", "0 or 1"});
  refuses_field("general.architecture:string_length", huge,
                {"metadata \"general.architecture\"", "truncated", "string", "18446744073709551615 bytes"});
  refuses_field("numbers:array_length", huge, {"metadata \"numbers\"", "array length", "4 bytes each"});
  refuses_field("numbers:array_length", std::uint64_t{1} << 62, {"metadata \"numbers\"", "array length"});
  refuses_field("tokens:array_length", std::uint64_t{1} << 61, {"metadata \"tokens\"", "array length", "8 bytes each"});
  refuses_field("tokens:element_length", huge, {"metadata \"tokens\"", "array string", "truncated"});
  refuses_field("numbers:element_type", 9, {"metadata \"numbers\"", "array of arrays"});
  refuses_field("numbers:element_type", 99, {"metadata \"numbers\"", "array element type is 99"});
  gguf::Builder builder = sample();
  builder.pair("flags").payload[1] = 7;
  refuses(builder, {"metadata \"flags\"", "bool array element is 7"});
  builder = sample();
  builder.add_array<std::uint64_t>("large", gguf::u64, {huge});
  refuses(builder, {"metadata \"large\"", "18446744073709551615", "2^63"});
}

TEST("arrays beyond any vocabulary") {
  gguf::Builder builder = sample();
  builder.add_array<std::uint8_t>("bytes", gguf::u8, std::vector<std::uint8_t>((1 << 24) - 5));
  refuses(builder.build().bytes, Error::Kind::unsupported,
          {"metadata \"bytes\"", "16777211 u8 values", "to 16777217 values", "at most 16777216"});
}

TEST("general.alignment") {
  for (const std::uint64_t bad : {0, 1, 4, 24, 33, 1000}) {
    refuses_field("general.alignment:value", bad,
                  {"general.alignment is " + std::to_string(bad), "a power of two from 8"});
  }
  refuses_field("general.alignment:value", 0x80000000,
                {"tensor \"one.weight\"", "truncated", "0 bytes of tensor data"});
  gguf::Builder builder = sample();
  builder.pair("general.alignment").type = gguf::f32;
  refuses(builder, {"\"general.alignment\"", "expected an integer"});
}

TEST("tensor names") {
  refuses_field("one.weight:name_length", 0, {"tensor 0", "tensor name length is 0", "1 to 64"});
  refuses_field("one.weight:name_length", 65, {"tensor 0", "tensor name length is 65", "1 to 64"});
  refuses_field("one.weight:name_length", huge, {"tensor 0", "tensor name length", "1 to 64"});
  gguf::Builder builder = sample();
  builder.tensor("two.weight").name = "two\x1b[2J";
  refuses(builder, {"tensor 1", "tensor name \"two\\x1b[2J\"", "printable ASCII"});
  builder = sample();
  builder.tensor("two.weight").name = "one.weight";
  refuses(builder, {"tensor \"one.weight\"", "duplicate name"});
}

TEST("tensor dimensions") {
  refuses_field("one.weight:rank", 0, {"tensor \"one.weight\"", "number of dimensions is 0", "1 to 4"});
  refuses_field("one.weight:rank", 5, {"tensor \"one.weight\"", "number of dimensions is 5", "1 to 4"});
  refuses_field("one.weight:dim0", 0, {"tensor \"one.weight\"", "dimension 0 is 0"});
  refuses_field("two.weight:dim1", 0, {"tensor \"two.weight\"", "dimension 1 is 0"});
  refuses_field("one.weight:dim0", huge, {"tensor \"one.weight\"", "overflow", "18446744073709551615"});
  refuses_field("one.weight:dim0", std::uint64_t{1} << 62, {"tensor \"one.weight\"", "overflow", "elements"});
  refuses_field("one.weight:dim1", std::uint64_t{1} << 60, {"tensor \"one.weight\"", "overflow", "bytes"});
  refuses_field("two.weight:dim0", 48, {"tensor \"two.weight\"", "rows of 48 values", "blocks of 32", "Q4_0"});
  // 2^32 * 2^32 * 2^32 * 2^32 wraps to zero in 64 bits, and to a small number with odd factors.
  gguf::Builder builder = sample();
  builder.tensor("one.weight").dims.assign(4, std::uint64_t{1} << 32);
  refuses(builder, {"tensor \"one.weight\"", "overflow", "elements"});
}

TEST("a tensor of a type that is not read is refused when it is asked for, and only then") {
  const auto type = [](std::uint64_t id, std::string_view name) {
    const gguf::TemporaryDirectory directory;
    const GgufFile file(directory.write("odd.gguf", with("two.weight:type", id)));
    CHECK(file.tensors().size() == 2 && file.find_tensor("three.weight") != nullptr);
    try {
      (void)file.find_tensor("two.weight");
    } catch (const Error& error) {
      const std::string text = error.what();
      CHECK(error.kind() == Error::Kind::unsupported);
      for (const std::string& part : {std::string("tensor \"two.weight\""), "type is " + std::string(name) + ",",
                                      std::string("expected one of F32, F16, Q4_0")}) {
        check::that(text.find(part) != std::string::npos, "\"" + text + "\" lacks \"" + part + "\"");
      }
      return;
    }
    check::that(false, "type " + std::string(name) + " was read");
  };
  type(4, "number 4");
  type(9, "Q8_1");
  type(15, "Q8_K");
  type(24, "I8");
  type(25, "I16");
  type(26, "I32");
  type(27, "I64");
  type(28, "F64");
  type(31, "number 31");
  type(0xffffffff, "number 4294967295");
}

TEST("what little is known of a tensor of another type is checked") {
  const auto odd = [](std::string_view field, std::uint64_t value) {
    gguf::Image image = sample().build();
    image.set("two.weight:type", 31);
    image.set(field, value);
    return image.bytes;
  };
  const auto refused = [&](std::string_view field, std::uint64_t value, Parts parts) {
    refuses(odd(field, value), Error::Kind::format, parts);
  };
  refused("two.weight:rank", 5, {"tensor \"two.weight\"", "number of dimensions is 5"});
  refused("two.weight:dim0", 0, {"tensor \"two.weight\"", "dimension 0 is 0"});
  refused("two.weight:dim0", huge, {"tensor \"two.weight\"", "overflow"});
  refused("two.weight:offset", 65, {"tensor \"two.weight\"", "offset is 65", "multiple of 32"});
  refused("two.weight:offset", 1 << 20, {"tensor \"two.weight\"", "truncated"});
  refused("two.weight:offset", 0, {"overlaps", "\"one.weight\"", "\"two.weight\""});
}

TEST("files that are no models are named as what they are") {
  const auto named = [](std::string_view bytes, Parts parts, Where where = Where::current()) {
    refuses(bytes, Error::Kind::format, parts, where);
  };
  named("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4235\n", {"git-LFS pointer to 4235 bytes"});
  named("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", {"git-LFS pointer to a file"});
  named("<!DOCTYPE html><html lang=en>", {"an HTML page"});
  named("\xEF\xBB\xBF\r\n  <HTML>\n<head>", {"an HTML page"});
  named(std::string("tjgg\3\0\0\0", 8), {"GGML, the format before GGUF"});
  named("PK\x03\x04 and more", {"ZIP archive"});
  named(std::string("\x02\0\0\0\0\0\0\0{}weights", 17), {"safetensors"});
  for (const std::string_view other : {"hello, world", "<xml>", "version 3", "{\"error\": 401}"}) {
    named(other, {"not a GGUF file"});
  }
}

TEST("tensor offsets") {
  refuses_field("one.weight:offset", 8, {"tensor \"one.weight\"", "offset is 8", "multiple of 32"});
  refuses_field("three.weight:offset", 1 << 20,
                {"tensor \"three.weight\"", "truncated", "34 bytes at offset 1048576", "290 bytes of tensor data"});
  refuses_field("three.weight:offset", huge - 31, {"tensor \"three.weight\"", "truncated", "18446744073709551584"});
  refuses_field("three.weight:offset", 0, {"overlaps", "\"one.weight\"", "\"three.weight\""});
  refuses_field("three.weight:offset", 224,
                {"tensor \"three.weight\"", "overlaps tensor \"two.weight\"", "ends at 244"});
  refuses_field("one.weight:dim1", 5, {"tensor \"two.weight\"", "overlaps tensor \"one.weight\""});
}

TEST("a file cut anywhere is truncated, and says where") {
  const std::string whole = sample().build().bytes;
  for (std::size_t size = 4; size < whole.size(); ++size) {
    refuses(std::string_view(whole).substr(0, size), Error::Kind::format, {"truncated"});
  }
}

TEST("messages show a hostile key as printable ASCII, and no more than a part of it") {
  gguf::Builder builder = sample();
  gguf::Pair& pair = builder.pair("flag");
  pair.key = std::string(60000, 'k');
  pair.type = 77;
  const gguf::TemporaryDirectory directory;
  const auto path = directory.write("bad.gguf", builder.build().bytes);
  const std::string text = check::throws<Error>([&] { const GgufFile file(path); });
  CHECK(text.size() < 300);
}

}  // namespace

int main() { return check::run_tests(); }
