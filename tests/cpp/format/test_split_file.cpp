#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <vector>

#include "check.hpp"
#include "format/split_file.hpp"
#include "gemlet/error.hpp"
#include "gguf_builder.hpp"
#include "gguf_mutator.hpp"

using check::Where;
using gemlet::Error;
using gemlet::GgufFile;
using gemlet::SplitName;
using Words = std::initializer_list<std::string_view>;

namespace {

constexpr std::size_t parts = 3;
constexpr std::size_t tensors = 4;

std::string name(std::size_t number) { return "toy-0000" + std::to_string(number) + "-of-00003.gguf"; }

/// Parts as gguf-split cuts them: all metadata in the first, `split.*` in each, here two tensors in the second part.
std::vector<gguf::Builder> split() {
  std::vector<gguf::Builder> builders(parts);
  builders[0].add_string("general.architecture", "toy");
  builders[0].add_strings("tokens", {"a", "b"});
  for (std::size_t i = 0; i < parts; ++i) {
    builders[i].scalar("split.no", gguf::u16, static_cast<std::uint16_t>(i));
    builders[i].scalar("split.tensors.count", gguf::i32, static_cast<std::int32_t>(tensors));
    builders[i].scalar("split.count", gguf::u16, static_cast<std::uint16_t>(parts));
  }
  builders[0].add_string("general.name", "Toy");
  builders[0].add_floats("zero", {2}, {0, 1});
  builders[1].add_floats("one", {2}, {2, 3});
  builders[1].add_floats("two", {2}, {4, 5});
  builders[2].add_floats("three", {2}, {6, 7});
  return builders;
}

void write(const gguf::TemporaryDirectory& directory, const std::vector<gguf::Builder>& builders) {
  for (std::size_t i = 0; i < builders.size(); ++i) directory.write(name(i + 1), builders[i].build().bytes);
}

void refuses(const std::filesystem::path& path, Error::Kind kind, Words words, Where where = Where::current()) {
  try {
    const GgufFile file(path);
  } catch (const Error& error) {
    const std::string text = error.what();
    check::that(error.kind() == kind, "another kind of error: " + text, where);
    for (const std::string_view word : words) {
      check::that(text.find(word) != std::string::npos, "\"" + text + "\" lacks \"" + std::string(word) + "\"", where);
    }
    return;
  }
  check::that(false, "the file was read", where);
}

/// All parts are written, one of them changed; the model is then opened by each of its parts.
void refuses_changed(std::size_t number, const std::function<void(gguf::Builder&)>& change, Words words,
                     Where where = Where::current()) {
  const gguf::TemporaryDirectory directory;
  std::vector<gguf::Builder> builders = split();
  change(builders[number - 1]);
  write(directory, builders);
  for (std::size_t given = 1; given <= parts; ++given) {
    refuses(directory.path() / name(given), Error::Kind::format, words, where);
  }
}

template <typename T>
void replace(gguf::Builder& builder, const char* key, gguf::ValueType type, T value) {
  std::erase_if(builder.metadata, [&](const gguf::Pair& pair) { return pair.key == key; });
  builder.scalar(key, type, value);
}

void check_whole(const GgufFile& file, Where where = Where::current()) {
  check::that(file.parts().size() == parts && file.tensors().size() == tensors, "parts or tensors are missing", where);
  check::that(file.get_string("general.name") == "Toy", "the metadata is not the first part's", where);
  float expected = 0;
  for (const char* tensor : {"zero", "one", "two", "three"}) {
    const gemlet::Tensor* found = file.find_tensor(tensor);
    check::that(found != nullptr, std::string(tensor) + " is missing", where);
    float values[2] = {};
    std::memcpy(values, found->data, sizeof(values));
    check::that(values[0] == expected && values[1] == expected + 1, std::string(tensor) + " has other values", where);
    file.part_of(*found).file.read({found->data, sizeof(values)}, reinterpret_cast<std::byte*>(values));
    check::that(values[0] == expected, std::string(tensor) + " is read from another part", where);
    expected += 2;
  }
  check::that(file.tensors()[2].name == "two", "the tensors are out of order", where);
}

TEST("the names of parts are parsed and made") {
  const auto parsed = SplitName::parse("gemma-3-00002-of-00013.gguf");
  CHECK(parsed && parsed->stem == "gemma-3" && parsed->number == 2 && parsed->count == 13);
  CHECK(parsed->part(1) == "gemma-3-00001-of-00013.gguf" && parsed->part(13) == "gemma-3-00013-of-00013.gguf");
  for (const char* other :
       {"gemma.gguf", "-00001-of-00003.gguf", "a-00000-of-00003.gguf", "a-00004-of-00003.gguf", "a-0001-of-00003.gguf",
        "a-00001-of-0003.gguf", "a-00001-of-00003.bin", "a-00001_of-00003.gguf", "a-+0001-of-00003.gguf",
        "a_00001-of-00003.gguf", "a-00001-of-00003.gguf.part", ""}) {
    check::that(!SplitName::parse(other), other);
  }
}

TEST("a part that is truncated while it is in use is an error of that part") {
  const gguf::TemporaryDirectory directory;
  write(directory, split());
  const GgufFile file(directory.path() / name(1));
  file.check_unchanged();
  std::filesystem::resize_file(directory.path() / name(2), 0);
  CHECK_THROWS(file.check_unchanged(), Error::Kind::io, (directory.path() / name(2)).string() + ": ends before byte 0");
  file.check_intact();
  float value = 1;
  std::memcpy(&value, file.find_tensor("two")->data, sizeof(value));
  CHECK(value == 0);
  CHECK_THROWS(file.check_intact(), Error::Kind::io, (directory.path() / name(2)).string() + ": ends before byte 0");
}

TEST("any part opens the whole model") {
  const gguf::TemporaryDirectory directory;
  write(directory, split());
  for (std::size_t given = 1; given <= parts; ++given) {
    const GgufFile file(directory.path() / name(given));
    check_whole(file);
    CHECK(file.path() == directory.path() / name(1));
  }
}

TEST("parts are found through links, as in a download cache, and under a link of another name") {
  const gguf::TemporaryDirectory blobs;
  const gguf::TemporaryDirectory snapshot;
  const std::vector<gguf::Builder> builders = split();
  for (std::size_t i = 0; i < parts; ++i) {
    const auto blob = blobs.write("blob" + std::to_string(i), builders[i].build().bytes);
    std::filesystem::create_symlink(blob, snapshot.path() / name(i + 1));
  }
  check_whole(GgufFile(snapshot.path() / name(2)));

  const gguf::TemporaryDirectory plain;
  write(plain, builders);
  std::filesystem::create_symlink(plain.path() / name(1), plain.path() / "toy.gguf");
  check_whole(GgufFile(plain.path() / "toy.gguf"));
}

TEST("a relative path of one part finds the others") {
  const gguf::TemporaryDirectory directory;
  write(directory, split());
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(directory.path());
  check_whole(GgufFile(name(3)));
  std::filesystem::current_path(before);
}

TEST("a missing part is named") {
  for (std::size_t missing = 1; missing <= parts; ++missing) {
    const gguf::TemporaryDirectory directory;
    write(directory, split());
    std::filesystem::remove(directory.path() / name(missing));
    const std::size_t given = missing == 1 ? 2 : 1;
    refuses(directory.path() / name(given), Error::Kind::io,
            {name(given), "part " + std::to_string(missing) + " of 3 is missing", name(missing) + ": cannot open"});
  }
}

TEST("a directory, a pipe, an empty file or a dangling link in a part's place is named") {
  const auto with = [](const std::function<void(const std::filesystem::path&)>& make, std::string_view why) {
    const gguf::TemporaryDirectory directory;
    write(directory, split());
    const auto place = directory.path() / name(2);
    std::filesystem::remove(place);
    make(place);
    refuses(directory.path() / name(1), Error::Kind::io, {"part 2 of 3 is missing", name(2), why});
  };
  with([](const auto& place) { std::filesystem::create_directory(place); }, "is a directory");
  with([](const auto& place) { CHECK(::mkfifo(place.c_str(), 0600) == 0); }, "not a regular file");
  with([](const auto& place) { std::ofstream(place).flush(); }, "the file is empty");
  with([](const auto& place) { std::filesystem::create_symlink("nowhere", place); }, "cannot open");
}

TEST("a part that is a link to another part, or to itself, is refused") {
  const gguf::TemporaryDirectory directory;
  write(directory, split());
  const auto place = directory.path() / name(2);
  std::filesystem::remove(place);
  std::filesystem::create_symlink(name(3), place);
  refuses(directory.path() / name(1), Error::Kind::format, {name(2), "split.no is 2, expected 1"});
  std::filesystem::remove(place);
  std::filesystem::create_symlink(name(2), place);
  refuses(directory.path() / name(1), Error::Kind::io, {"part 2 of 3 is missing"});
}

TEST("parts that do not belong together are refused") {
  refuses_changed(2, [](gguf::Builder& b) { replace(b, "split.no", gguf::u16, std::uint16_t{2}); },
                  {name(2), "split.no is 2, expected 1"});
  refuses_changed(1, [](gguf::Builder& b) { replace(b, "split.no", gguf::u16, std::uint16_t{1}); },
                  {name(1), "split.no is 1, expected 0"});
  refuses_changed(3, [](gguf::Builder& b) { replace(b, "split.count", gguf::u16, std::uint16_t{4}); },
                  {name(3), "split.count is 4, expected 3"});
  refuses_changed(2, [](gguf::Builder& b) { replace(b, "split.tensors.count", gguf::i32, 5); },
                  {"split.tensors.count is ", ", expected "});
  refuses_changed(2, [](gguf::Builder& b) { replace(b, "split.tensors.count", gguf::i32, -1); },
                  {name(2), "split.tensors.count"});
  refuses_changed(2, [](gguf::Builder& b) { b.tensors.pop_back(); }, {"have 3 tensors, expected 4"});
  refuses_changed(2, [](gguf::Builder& b) { b.add_floats("more", {1}, {1}); }, {"have 5 tensors, expected 4"});
  refuses_changed(3, [](gguf::Builder& b) { b.tensor("three").name = "one"; },
                  {name(3), "tensor \"one\"", "an earlier part has one"});
  refuses_changed(2, [](gguf::Builder& b) { b.tensor("two").dims = {1 << 20}; },
                  {name(2), "tensor \"two\"", "truncated"});
}

TEST("a part without its split keys is refused as a part, and is a model by itself") {
  const gguf::TemporaryDirectory directory;
  std::vector<gguf::Builder> builders = split();
  std::erase_if(builders[1].metadata, [](const gguf::Pair& pair) { return pair.key.starts_with("split."); });
  write(directory, builders);
  refuses(directory.path() / name(1), Error::Kind::format, {name(2), "\"split.count\": missing"});
  CHECK(GgufFile(directory.path() / name(2)).tensors().size() == 2);
}

TEST("a damaged part is named") {
  const gguf::TemporaryDirectory directory;
  write(directory, split());
  directory.write(name(3), "version https://git-lfs.github.com/spec/v1\nsize 12\n");
  refuses(directory.path() / name(1), Error::Kind::format, {name(3), "git-LFS pointer to 12 bytes"});
}

TEST("counts beyond any model, and a name that does not lead to the other parts") {
  const gguf::TemporaryDirectory directory;
  std::vector<gguf::Builder> builders = split();
  const auto renamed = directory.write("toy.gguf", builders[0].build().bytes);
  refuses(renamed, Error::Kind::format, {"toy.gguf", "one of the 3 parts", "-00001-of-00003.gguf"});
  replace(builders[0], "split.count", gguf::u32, std::uint32_t{60000});
  refuses(directory.write("toy-00001-of-60000.gguf", builders[0].build().bytes), Error::Kind::unsupported,
          {"split.count is 60000, expected at most 512"});
}

TEST("a file that says it is the only part is one file, whatever its name") {
  const gguf::TemporaryDirectory directory;
  gguf::Builder whole = split()[0];
  for (const std::uint32_t count : {0U, 1U}) {
    replace(whole, "split.count", gguf::u32, count);
    CHECK(GgufFile(directory.write("toy.gguf", whole.build().bytes)).tensors().size() == 1);
    CHECK(GgufFile(directory.write(name(2), whole.build().bytes)).parts().size() == 1);
  }
}

TEST("the header that is copied to another file is that of a whole model") {
  const gguf::TemporaryDirectory directory;
  write(directory, split());
  const std::string header = GgufFile(directory.path() / name(3)).header(0);
  const GgufFile copy(directory.write("copy.gguf", header));
  CHECK(copy.tensors().empty() && copy.parts().size() == 1 && copy.values().size() == 3);
  CHECK(copy.get_string("general.name") == "Toy" && copy.get_strings("tokens").size() == 2);

  gguf::Builder single = split()[0];
  std::erase_if(single.metadata, [](const gguf::Pair& pair) { return pair.key.starts_with("split."); });
  const std::string bytes = single.build().bytes;
  const std::string same = GgufFile(directory.write("single.gguf", bytes)).header(1);
  CHECK(bytes.starts_with(same) && bytes.substr(same.size()).starts_with(std::string("\4\0\0\0\0\0\0\0zero", 12)));
}

TEST("each byte before the weights and each tensor's beginning, in any part, change the fingerprint") {
  const gguf::TemporaryDirectory directory;
  const std::vector<gguf::Builder> good = split();
  const auto fingerprint = [&] { return gemlet::fingerprint(GgufFile(directory.path() / name(1))); };
  write(directory, good);
  std::vector<std::uint64_t> seen{fingerprint()};
  for (std::size_t part = 0; part < parts; ++part) {
    std::vector<gguf::Builder> changed = good;
    changed[part].tensors.back().data.back() ^= 1;
    write(directory, changed);
    seen.push_back(fingerprint());
  }
  std::vector<gguf::Builder> renamed = good;
  renamed[2].tensor("three").name = "drei ";
  write(directory, renamed);
  seen.push_back(fingerprint());
  std::ranges::sort(seen);
  CHECK(std::ranges::adjacent_find(seen) == seen.end());
}

TEST("damaged parts are refused with an Error, or read") {
  const gguf::TemporaryDirectory directory;
  std::vector<gguf::Builder> good = split();
  for (std::size_t i = 0; i < parts; ++i) {  // the mutator takes up to two away
    replace(good[i], "split.tensors.count", gguf::i32, static_cast<std::int32_t>(tensors + 2 * parts));
    for (const char* more : {"more", "most"})
      good[i].add_floats(more + std::to_string(i), {64}, std::vector<float>(64));
  }
  write(directory, good);
  std::size_t read = 0;
  std::size_t refused = 0;
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    const std::size_t damaged = seed % parts;
    directory.write(name(damaged + 1), gguf::Mutator(seed).mutate(good[damaged]));
    try {
      const GgufFile file(directory.path() / name(1 + seed / parts % parts));
      (void)gemlet::fingerprint(file);
      for (const gemlet::Tensor& tensor : file.tensors()) {
        std::vector<std::byte> bytes(tensor.bytes());
        file.part_of(tensor).file.read({tensor.data, tensor.bytes()}, bytes.data());
        CHECK(std::equal(bytes.begin(), bytes.end(), tensor.data));
      }
      (void)file.header(0);
      ++read;
    } catch (const Error&) {
      ++refused;
    }
    directory.write(name(damaged + 1), good[damaged].build().bytes);
  }
  CHECK(read > 300 && refused > 300);  // neither is the rule
}

}  // namespace

int main() { return check::run_tests(); }
