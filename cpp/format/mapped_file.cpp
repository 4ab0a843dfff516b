#include "format/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "gemlet/error.hpp"

namespace gemlet {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what) {
  throw Error(Error::Kind::io, path.string() + ": " + what);
}

[[noreturn]] void fail_errno(const std::filesystem::path& path, const char* action, int code) {
  fail(path, std::string(action) + ": " + std::generic_category().message(code));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// What madvise and mincore want: `part` from a page boundary on. A map starts on one, so that rounding down stays
// inside.
struct Pages {
  explicit Pages(std::span<const std::byte> part) : size(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))) {
    const auto address = reinterpret_cast<std::uintptr_t>(part.data());
    begin = reinterpret_cast<void*>(address / size * size);
    bytes = address % size + part.size();
  }
  std::size_t size;
  void* begin;
  std::size_t bytes;
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a pipe that nobody writes to must not hang; it changes nothing for a regular file.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) fail_errno(path, "cannot open", errno);
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) fail_errno(path, "cannot read the file's size", errno);
  if (S_ISDIR(status.st_mode)) fail(path, "is a directory, expected a file");
  if (!S_ISREG(status.st_mode)) fail(path, "is not a regular file, which cannot be mapped");
  if (status.st_size == 0) fail(path, "the file is empty");
  if (static_cast<std::uintmax_t>(status.st_size) > std::numeric_limits<std::size_t>::max() / 2) {
    fail(path, "has " + std::to_string(status.st_size) + " bytes, more than this system can map");
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) fail_errno(path, "cannot map the file", errno);
  data_ = static_cast<const std::byte*>(data);
  size_ = size;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::expect_random(std::span<const std::byte> part) const noexcept {
  if (part.empty()) return;
  const Pages pages(part);
  // Only advice: a system that refuses it reads ahead as before.
  ::madvise(pages.begin, pages.bytes, MADV_RANDOM);
}

std::size_t MappedFile::resident_bytes(std::span<const std::byte> part) const {
  if (part.empty()) return 0;
  const Pages pages(part);
#ifdef __APPLE__
  using State = char;
#else
  using State = unsigned char;
#endif
  std::vector<State> states((pages.bytes + pages.size - 1) / pages.size);
  if (::mincore(pages.begin, pages.bytes, states.data()) != 0) return 0;
  return static_cast<std::size_t>(std::ranges::count_if(states, [](State state) { return (state & 1) != 0; })) *
         pages.size;
}

}  // namespace gemlet
