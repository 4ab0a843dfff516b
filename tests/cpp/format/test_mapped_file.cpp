#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include "check.hpp"
#include "format/mapped_file.hpp"
#include "gemlet/error.hpp"
#include "gguf_builder.hpp"

using gemlet::Error;
using gemlet::MappedFile;

namespace {

/// The message of the Error(io) that opening `path` must throw; it names the path.
std::string refused(const std::filesystem::path& path) {
  try {
    const MappedFile file(path);
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(error.kind() == Error::Kind::io);
    CHECK(message.find(path.string()) != std::string::npos);
    return message;
  }
  check::that(false, path.string() + " was opened");
  return {};
}

std::string read(const MappedFile& file, std::size_t begin, std::size_t size) {
  std::string text(size, '?');
  file.read(file.bytes().subspan(begin, size), reinterpret_cast<std::byte*>(text.data()));
  return text;
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

TEST("a file is mapped whole") {
  const gguf::TemporaryDirectory directory;
  const std::string content(10000, 'g');
  const MappedFile file(directory.write("a", content));
  CHECK(file.bytes().size() == content.size());
  CHECK(std::memcmp(file.bytes().data(), content.data(), content.size()) == 0);
}

TEST("the map and reads outlive the file's name") {
  const gguf::TemporaryDirectory directory;
  const auto path = directory.write("a", "first");
  const MappedFile file(path);
  directory.write("b", "second");
  std::filesystem::rename(directory.path() / "b", path);
  CHECK(static_cast<char>(file.bytes()[0]) == 'f');
  CHECK(read(file, 3, 2) == "st");
}

TEST("what is read is the part that was asked for") {
  const gguf::TemporaryDirectory directory;
  std::string content(20000, ' ');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7 % 251);
  const MappedFile file(directory.write("a", content));
  file.fetch(file.bytes().subspan(4090, 9000));
  for (const auto& [begin, size] : {std::pair{0, 20000}, {4090, 9000}, {19999, 1}, {20000, 0}}) {
    CHECK(read(file, begin, size) == content.substr(begin, size));
  }
}

#ifdef __linux__
/// Bytes of mapped files that are resident in this process.
std::size_t resident_file_bytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  std::size_t kilobytes = 0;
  while (status >> word && word != "RssFile:") continue;
  status >> kilobytes;
  return kilobytes * 1024;
}

TEST("what is read does not become resident, what is touched does") {
  constexpr std::size_t size = 16 << 20;
  const gguf::TemporaryDirectory directory;
  const MappedFile file(directory.write("a", std::string(size, 'g')));
  const std::size_t before = resident_file_bytes();
  for (std::size_t i = 0; i < size; i += 4096) CHECK(read(file, i, 10) == "gggggggggg");
  CHECK(before > 0 && resident_file_bytes() < before + size / 4);
  std::size_t sum = 0;
  for (std::size_t i = 0; i < size; i += 4096) sum += std::to_integer<std::size_t>(file.bytes()[i]);
  CHECK(sum == size / 4096 * 'g' && resident_file_bytes() > before + size * 3 / 4);
}
#endif

TEST("reading what was cut off is an error") {
  const gguf::TemporaryDirectory directory;
  const auto path = directory.write("a", std::string(20000, 'g'));
  const MappedFile file(path);
  std::filesystem::resize_file(path, 9000);
  CHECK(read(file, 8000, 1000) == std::string(1000, 'g'));
  const std::string message = check::throws<Error>([&] { read(file, 8000, 1001); });
  CHECK(message == path.string() + ": ends before byte 9000, expected 20000 bytes as when it was opened");
}

TEST("a page that is gone is an error of the file, not the end of the process") {
  const gguf::TemporaryDirectory directory;
  const auto path = directory.write("a", std::string(200000, 'g'));
  const MappedFile file(path);
  const MappedFile other(directory.write("b", std::string(200000, 'h')));
  file.check_unchanged();
  std::filesystem::resize_file(path, 9000);
  file.check_intact();  // nobody has touched what is gone
  CHECK(std::to_integer<int>(file.bytes()[150000]) == 0);
  const std::string message = path.string() + ": ends before byte 9000, expected 200000 bytes as when it was opened";
  CHECK(check::throws<Error>([&] { file.check_intact(); }) == message);
  CHECK(check::throws<Error>([&] { file.check_unchanged(); }) == message);
  CHECK(check::throws<Error>([&] { read_intact(file, [] { throw std::runtime_error("malformed"); }); }) == message);
  std::filesystem::resize_file(path, 200000);  // it stays damaged: what was computed from it is wrong
  CHECK_THROWS(file.check_intact(), Error::Kind::io, path.string() + ": could not be read at byte");
  other.check_unchanged();
  CHECK(static_cast<char>(other.bytes()[150000]) == 'h');
}

TEST("a file that was written to is another one than was opened, one that was replaced is not") {
  const gguf::TemporaryDirectory directory;
  const auto path = directory.write("a", "first");
  const MappedFile file(path);
  const auto opened = std::filesystem::last_write_time(path);
  std::filesystem::last_write_time(path, opened + std::chrono::seconds(1));
  CHECK_THROWS(file.check_unchanged(), Error::Kind::io, path.string() + ": was written to at ");
  file.check_intact();
  std::filesystem::last_write_time(path, opened);
  file.check_unchanged();
  std::filesystem::resize_file(path, 7);
  CHECK_THROWS(file.check_unchanged(), Error::Kind::io, "has 7 bytes, expected 5 as when it was opened");
  const MappedFile again(path);
  directory.write("b", "second");
  std::filesystem::rename(directory.path() / "b", path);
  again.check_unchanged();
}

TEST("a missing file, a directory, an empty file and a pipe are refused by name") {
  const gguf::TemporaryDirectory directory;
  CHECK(contains(refused(directory.path() / "missing"), "cannot open"));
  CHECK(contains(refused(directory.path() / "a" / "b"), "cannot open"));
  CHECK(contains(refused(directory.path()), "is a directory, expected a file"));
  CHECK(contains(refused(directory.write("empty", "")), "the file is empty"));
  const auto pipe = directory.path() / "pipe";
  CHECK(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(contains(refused(pipe), "is not a regular file"));
  CHECK(contains(refused("/dev/null"), "is not a regular file"));
}

TEST("a file without read permission is refused") {
  const gguf::TemporaryDirectory directory;
  const auto path = directory.write("secret", "x");
  std::filesystem::permissions(path, std::filesystem::perms::none);
  // The superuser may read anything: give the privilege up for this one call.
  const bool root = ::geteuid() == 0;
  if (root) {
    std::filesystem::permissions(directory.path(), std::filesystem::perms::all);
    CHECK(::seteuid(65534) == 0);
  }
  std::string message;
  try {
    message = refused(path);
  } catch (...) {
    if (root) CHECK(::seteuid(0) == 0);
    throw;
  }
  if (root) CHECK(::seteuid(0) == 0);
  CHECK(contains(message, "Permission denied"));
}

}  // namespace

int main() { return check::run_tests(); }
