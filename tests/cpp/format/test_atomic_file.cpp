#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "format/atomic_file.hpp"
#include "format/checksum.hpp"
#include "gemlet/error.hpp"
#include "gguf_builder.hpp"

using gemlet::AtomicFile;
using gemlet::Error;

namespace {

using std::filesystem::path;

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string content(const path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write(const path& target, const std::string& text, std::vector<path> sources = {}) {
  AtomicFile file(target, std::move(sources));
  file.write(bytes(text));
  file.commit();
}

std::size_t entries(const path& directory) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

TEST("a file appears when it is complete, and not at all without a commit") {
  const gguf::TemporaryDirectory directory;
  const path target = directory.write("a", "old");
  {
    AtomicFile file(target);
    file.write(bytes("half"));
    CHECK(content(target) == "old");
  }
  CHECK(content(target) == "old" && entries(directory.path()) == 1);
  write(target, "new");
  CHECK(content(target) == "new" && entries(directory.path()) == 1);
}

TEST("what is no regular file is refused and stays") {
  const gguf::TemporaryDirectory directory;
  const path precious = directory.write("precious", "mine");
  const path link = directory.path() / "link";
  const path loose = directory.path() / "loose";
  const path fifo = directory.path() / "fifo";
  std::filesystem::create_symlink(precious, link);
  std::filesystem::create_symlink("nowhere", loose);
  CHECK(::mkfifo(fifo.c_str(), 0600) == 0);
  // A node of our own where that is allowed: a fault here would replace the system's, whose folder root can write to.
  path device = directory.path() / "device";
  if (::mknod(device.c_str(), S_IFCHR | 0600, makedev(1, 3)) != 0) device = "/dev/null";
  const std::size_t before = entries(directory.path());
  CHECK_THROWS(write(link, "x"), Error::Kind::io, "is a symbolic link to " + precious.string());
  CHECK_THROWS(write(loose, "x"), Error::Kind::io, "is a symbolic link to nowhere");
  CHECK_THROWS(write(fifo, "x"), Error::Kind::io, "is a FIFO, expected a file name");
  CHECK_THROWS(write(directory.path(), "x"), Error::Kind::io, "is a directory, expected a file name");
  CHECK_THROWS(write(device, "x"), Error::Kind::io, "is a device, expected a file name");
  CHECK_THROWS(write("/", "x"), Error::Kind::io, "is a directory");
  CHECK_THROWS(write(directory.path() / "none" / "x", "x"), Error::Kind::io, "there is no directory");
  CHECK_THROWS(write(path(std::string("a\0b", 3)), "x"), Error::Kind::io, "zero byte");
  CHECK(content(precious) == "mine" && entries(directory.path()) == before);
}

TEST("a source is refused under every name") {
  const gguf::TemporaryDirectory directory;
  const path source = directory.write("source", "mine");
  const path twin = directory.path() / "twin";
  std::filesystem::create_hard_link(source, twin);
  std::filesystem::create_symlink(source, directory.path() / "link");
  CHECK_THROWS(write(source, "x", {source}), Error::Kind::io, "which is read or in use");
  CHECK_THROWS(write(twin, "x", {directory.path() / "link"}), Error::Kind::io, "which is read or in use");
  write(directory.path() / "other", "x", {source});
  CHECK(content(source) == "mine" && content(directory.path() / "other") == "x");
}

TEST("what takes the place meanwhile is not replaced") {
  const gguf::TemporaryDirectory directory;
  const path precious = directory.write("precious", "mine");
  const path target = directory.path() / "a";
  AtomicFile file(target);
  file.write(bytes("x"));
  std::filesystem::create_symlink(precious, target);
  CHECK_THROWS(file.commit(), Error::Kind::io, "is a symbolic link");
  CHECK(content(precious) == "mine" && std::filesystem::is_symlink(target));
}

TEST("a file that is replaced keeps its permissions") {
  const gguf::TemporaryDirectory directory;
  const path target = directory.write("a", "private");
  std::filesystem::permissions(target, std::filesystem::perms(0600));
  write(target, "new");
  CHECK(std::filesystem::status(target).permissions() == std::filesystem::perms(0600));
}

/// The name of the file that an AtomicFile writes now.
std::string temporary_name(const path& directory) {
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() == ".tmp") return entry.path().filename().string();
  }
  return {};
}

TEST("temporary names are nobody else's") {
  const gguf::TemporaryDirectory directory;
  std::string process;
  int next = 0;
  {
    const AtomicFile file(directory.path() / "a");
    const std::string name = temporary_name(directory.path());
    const std::size_t end = name.rfind('-') + 1;
    process = name.substr(0, end);
    next = std::stoi(name.substr(end)) + 1;
  }
  std::vector<int> used;
  for (int i = next; i < next + 100; ++i) {  // by another container
    const path other = directory.write(process + std::to_string(i) + ".tmp", "another's");
    used.push_back(::open(other.c_str(), O_RDONLY));
    CHECK(::flock(used.back(), LOCK_EX) == 0);
  }
  write(directory.path() / "a", "mine");
  CHECK(content(directory.path() / "a") == "mine" && entries(directory.path()) == 101);
  for (const int descriptor : used) ::close(descriptor);
  write(directory.path() / "a", "yours");  // and none of them is in use any more
  CHECK(content(directory.path() / "a") == "yours" && entries(directory.path()) == 1);
  const std::string name(255, 'n');  // the longest that there can be
  write(directory.path() / name, "long");
  CHECK(content(directory.path() / name) == "long");
}

TEST("only what this machine's killed processes left is removed") {
  const gguf::TemporaryDirectory directory;
  const path target = directory.path() / "a";
  {
    const AtomicFile first(target);
    const AtomicFile second(target);
    const std::string name = temporary_name(directory.path());
    CHECK(entries(directory.path()) == 2);
    const std::string own = name.substr(0, name.rfind('-', name.rfind('-') - 1) + 1);
    std::filesystem::create_symlink("precious", directory.path() / (own + "1-1.tmp"));
    std::filesystem::create_directory(directory.path() / (own + "2-1.tmp"));
    directory.write(own + "3-1.txt", "mine");
    directory.write(".gemlet-00000000-1-1.tmp", "another machine's, whose locks are not seen here");
    directory.write(own + "4-1.tmp", "left");
    const AtomicFile third(target);
    CHECK(entries(directory.path()) == 7);
  }
  CHECK(entries(directory.path()) == 4);
}

TEST("threads that write one file leave one of them whole") {
  const gguf::TemporaryDirectory directory;
  const path target = directory.path() / "a";
  std::vector<std::string> texts;
  for (const char letter : {'a', 'b', 'c', 'd'}) texts.emplace_back(100000, letter);
  std::vector<std::thread> threads;
  for (const std::string& text : texts) {
    threads.emplace_back([&target, &text] {
      for (int i = 0; i < 20; ++i) write(target, text);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(std::ranges::count(texts, content(target)) == 1 && entries(directory.path()) == 1);
}

TEST("a checksum sees every bit, wherever it is") {
  const gguf::TemporaryDirectory directory;
  for (const std::size_t size : {std::size_t{1}, std::size_t{64}, std::size_t{100}, (std::size_t{1} << 20) + 7}) {
    std::string text(size, 'x');
    const path file = directory.write("a", text);
    const std::uint64_t whole = gemlet::file_checksum(file);
    CHECK(gemlet::file_checksum(file) == whole);
    for (const std::size_t at : {std::size_t{0}, size / 2, size - 1}) {
      text[at] ^= 4;
      directory.write("a", text);
      CHECK(gemlet::file_checksum(file) != whole);
      text[at] ^= 4;
    }
  }
}

}  // namespace

int main() { return check::run_tests(); }
