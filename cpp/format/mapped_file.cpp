#include "format/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <ctime>
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

std::string utc(std::int64_t seconds, std::int64_t nanoseconds) {
  const auto time = static_cast<std::time_t>(seconds);
  std::tm parts{};
  std::array<char, 32> text{};
  ::gmtime_r(&time, &parts);
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S.", &parts);
  return std::string(text.data(), length) + std::to_string(1000000000 + nanoseconds).substr(1) + " UTC";
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
  opened_ = state(path, file.get());
  if (opened_.size == 0) fail(path, "the file is empty");
  if (opened_.size > std::numeric_limits<std::size_t>::max() / 2) {
    fail(path, "has " + std::to_string(opened_.size) + " bytes, more than this system can map");
  }
  void* data = ::mmap(nullptr, static_cast<std::size_t>(opened_.size), PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) fail_errno(path, "cannot map the file", errno);
  data_ = static_cast<const std::byte*>(data);
  descriptor_ = file.release();
  guard_.watch(bytes(), descriptor_);
#ifdef POSIX_FADV_RANDOM
  // read() is for rows here and there: no read-ahead. Faults of the map go by the map's own advice, not by this.
  ::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_RANDOM);
#endif
}

MappedFile::~MappedFile() {
  guard_.unwatch();
  ::munmap(const_cast<std::byte*>(data_), bytes().size());
  ::close(descriptor_);
}

void MappedFile::read(std::span<const std::byte> part, std::byte* out) const {
  for (std::size_t done = 0; done < part.size();) {
    const std::size_t offset = static_cast<std::size_t>(part.data() - data_) + done;
    const ssize_t count = ::pread(descriptor_, out + done, part.size() - done, static_cast<off_t>(offset));
    if (count == 0) fail_changed({std::min<std::uint64_t>(state(path_, descriptor_).size, offset), 0, 0});
    if (count < 0 && errno != EINTR) fail_errno(path_, "cannot read", errno);
    if (count > 0) done += static_cast<std::size_t>(count);
  }
}

void MappedFile::check_unchanged() const {
  check_intact();
  if (const State now = state(path_, descriptor_); now != opened_) fail_changed(now);
}

MappedFile::State MappedFile::state(const std::filesystem::path& path, int descriptor) {
  struct stat status{};
  if (::fstat(descriptor, &status) != 0) fail_errno(path, "cannot read the file's size", errno);
#ifdef __APPLE__
  const timespec& modified = status.st_mtimespec;
#else
  const timespec& modified = status.st_mtim;
#endif
  return {static_cast<std::uint64_t>(status.st_size), modified.tv_sec, modified.tv_nsec};
}

void MappedFile::fail_changed(const State& now) const {
  if (now.size < opened_.size) {
    fail(path_, "ends before byte " + std::to_string(now.size) + ", expected " + std::to_string(opened_.size) +
                    " bytes as when it was opened");
  }
  if (now.size > opened_.size) {
    fail(path_, "has " + std::to_string(now.size) + " bytes, expected " + std::to_string(opened_.size) +
                    " as when it was opened");
  }
  fail(path_, "was written to at " + utc(now.seconds, now.nanoseconds) +
                  ", expected it as it was when it was opened: last written to at " +
                  utc(opened_.seconds, opened_.nanoseconds));
}

void MappedFile::fail_damaged() const {
  if (const State now = state(path_, descriptor_); now.size < opened_.size) fail_changed(now);
  fail(path_, "could not be read at byte " + std::to_string(guard_.damaged_at()) + " of " +
                  std::to_string(opened_.size) + ": its disk failed, or it was shorter for a time");
}

void MappedFile::fetch([[maybe_unused]] std::span<const std::byte> part) const noexcept {
#ifdef POSIX_FADV_WILLNEED
  // Only advice: a system that refuses it waits for each read.
  ::posix_fadvise(descriptor_, part.data() - data_, static_cast<off_t>(part.size()), POSIX_FADV_WILLNEED);
#endif
}

}  // namespace gemlet
