#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

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

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

TEST("a file is mapped whole") {
  const gguf::TemporaryDirectory directory;
  const std::string content(10000, 'g');
  const MappedFile file(directory.write("a", content));
  CHECK(file.bytes().size() == content.size());
  CHECK(std::memcmp(file.bytes().data(), content.data(), content.size()) == 0);
}

TEST("the map outlives a move and the file's name") {
  const gguf::TemporaryDirectory directory;
  const auto path = directory.write("a", "first");
  MappedFile file(path);
  MappedFile moved(std::move(file));
  std::filesystem::remove(path);
  CHECK(static_cast<char>(moved.bytes()[0]) == 'f');
  MappedFile other(directory.write("b", "second"));
  other = std::move(moved);
  CHECK(other.bytes().size() == 5 && static_cast<char>(other.bytes()[4]) == 't');
}

TEST("advice about any part of the map does not change it") {
  const gguf::TemporaryDirectory directory;
  const MappedFile file(directory.write("a", std::string(20000, 'g')));
  file.expect_random(file.bytes());
  file.expect_random(file.bytes().subspan(5000, 9000));
  file.expect_random(file.bytes().subspan(20000));
  CHECK(static_cast<char>(file.bytes()[19999]) == 'g');
}

TEST("what was read is in memory") {
  const gguf::TemporaryDirectory directory;
  const MappedFile file(directory.write("a", std::string(20000, 'g')));
  CHECK(static_cast<char>(file.bytes()[9000]) == 'g');
  CHECK(file.resident_bytes(file.bytes().subspan(9000, 1)) >= 4096);
  CHECK(file.resident_bytes(file.bytes()) < 20000 + 65536 && file.resident_bytes({}) == 0);
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
