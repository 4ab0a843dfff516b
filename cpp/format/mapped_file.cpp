#include "format/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include "gemlet/error.hpp"

namespace gemlet {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what) {
  throw Error(Error::Kind::io, path.string() + ": " + what);
}

[[noreturn]] void fail_errno(const std::filesystem::path& path, const char* action, int code) {
  fail(path, std::string(action) + ": " + std::generic_category().message(code));
}

// Closes the file unless the constructor gets to its end.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  // O_NONBLOCK: opening a pipe that nobody writes to must not hang; it changes nothing for a regular file.
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
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
  descriptor_ = file.release();
#ifdef POSIX_FADV_RANDOM
  // read() is for rows here and there: no read-ahead. Faults of the map go by the map's own advice, not by this.
  ::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_RANDOM);
#endif
}

MappedFile::~MappedFile() {
  ::munmap(const_cast<std::byte*>(data_), size_);
  ::close(descriptor_);
}

void MappedFile::read(std::span<const std::byte> part, std::byte* out) const {
  for (std::size_t done = 0; done < part.size();) {
    const std::size_t offset = static_cast<std::size_t>(part.data() - data_) + done;
    const ssize_t count = ::pread(descriptor_, out + done, part.size() - done, static_cast<off_t>(offset));
    if (count == 0) {
      fail(path_, "ends before byte " + std::to_string(offset) + ", expected " + std::to_string(size_) +
                      " bytes as when it was opened");
    }
    if (count < 0 && errno != EINTR) fail_errno(path_, "cannot read", errno);
    if (count > 0) done += static_cast<std::size_t>(count);
  }
}

void MappedFile::fetch([[maybe_unused]] std::span<const std::byte> part) const noexcept {
#ifdef POSIX_FADV_WILLNEED
  // Only advice: a system that refuses it waits for each read.
  ::posix_fadvise(descriptor_, part.data() - data_, static_cast<off_t>(part.size()), POSIX_FADV_WILLNEED);
#endif
}

}  // namespace gemlet
