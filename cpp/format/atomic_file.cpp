#include "format/atomic_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <system_error>

#include "gemlet/error.hpp"

namespace gemlet {

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  std::error_code ignored;
  const std::filesystem::file_status standing = std::filesystem::status(path_, ignored);
  if (std::filesystem::exists(standing) && !std::filesystem::is_regular_file(standing)) {  // a device, say
    throw Error(Error::Kind::io, path_.string() + ": is not a regular file, expected a file name");
  }
  static std::atomic<unsigned> counter{0};
  temporary_ = path_.string() + "." + std::to_string(::getpid()) + "-" + std::to_string(counter++) + ".tmp";
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("create a file beside");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail("write");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail("replace");
  ::close(descriptor_);
  descriptor_ = -1;
}

void AtomicFile::fail(const char* action) const {
  throw Error(Error::Kind::io, std::string("cannot ") + action + " " + path_.string() + ": " + std::strerror(errno));
}

}  // namespace gemlet
