#include "format/atomic_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "gemlet/error.hpp"

namespace gemlet {
namespace {

using std::filesystem::path;

constexpr mode_t permissions = 0777;

[[noreturn]] void fail(const path& target, const std::string& what) {
  throw Error(Error::Kind::io, target.string() + ": " + what);
}

[[noreturn]] void fail_errno(const path& target, const char* action) {
  const int code = errno;
  fail(target, std::string(action) + ": " + std::generic_category().message(code));
}

path directory_of(const path& target) { return target.has_parent_path() ? target.parent_path() : path("."); }

/// Whether a file is mounted there by itself: it can be written, but nothing can take its place.
bool is_mount_point([[maybe_unused]] const path& target) {
#ifdef STATX_ATTR_MOUNT_ROOT
  struct statx status{};
  return ::statx(AT_FDCWD, target.c_str(), AT_SYMLINK_NOFOLLOW, STATX_TYPE, &status) == 0 &&
         (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
#else
  return false;
#endif
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

/// The status of the regular file that is to be replaced; nothing where there is none.
std::optional<struct stat> find_old(const path& target, std::span<const path> sources) {
  if (const auto end = target.native().find('\0'); end != path::string_type::npos) {
    fail(target.native().substr(0, end), "is followed by a zero byte, which no file name can have");
  }
  struct stat status{};
  if (::lstat(target.c_str(), &status) != 0) {
    if (errno != ENOENT) fail_errno(target, "cannot be written");
    if (struct stat directory{}; ::stat(directory_of(target).c_str(), &directory) != 0) {
      fail(target, "cannot be written: there is no directory " + directory_of(target).string());
    }
    if (!target.has_filename()) fail(target, "has no file name");
    return std::nullopt;
  }
  if (S_ISLNK(status.st_mode)) {
    std::error_code ignored;
    const path goal = std::filesystem::read_symlink(target, ignored);
    fail(target, "is a symbolic link to " + goal.string() + ", which is not written through; name that file itself");
  }
  if (!S_ISREG(status.st_mode)) fail(target, std::string("is ") + kind_of(status.st_mode) + ", expected a file name");
  if (is_mount_point(target)) {
    fail(target, "is a mount point, which cannot be replaced; write into a folder that is mounted, or elsewhere");
  }
  for (const path& source : sources) {
    struct stat other{};
    if (::stat(source.c_str(), &other) == 0 && other.st_dev == status.st_dev && other.st_ino == status.st_ino) {
      fail(target, "is " + source.string() + ", which is read or in use; expected another name");
    }
  }
  return status;
}

void sync_directory(const path& directory) {
  // The rename has happened; a system that cannot sync directories keeps it as safe as it can.
  const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

/// What temporary names begin with. It names this machine since it has been started, within which all processes see
/// each other's locks; empty if it has no such name.
const std::string& machine_prefix() {
  static const std::string prefix = [] {
    constexpr std::size_t digits = 8;
    std::string boot;
    std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
    return boot.size() < digits ? std::string() : ".gemlet-" + boot.substr(0, digits) + "-";
  }();
  return prefix;
}

bool is_at(int descriptor, const path& file) {
  struct stat open{};
  struct stat found{};
  return ::fstat(descriptor, &open) == 0 && ::lstat(file.c_str(), &found) == 0 && open.st_dev == found.st_dev &&
         open.st_ino == found.st_ino;
}

/// Removes a temporary file that nobody has locked.
void remove_if_abandoned(const path& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) return;
  struct stat status{};
  if (::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && ::flock(descriptor, LOCK_EX | LOCK_NB) == 0 &&
      is_at(descriptor, file)) {  // else another remover was there first, and the name is a new file's
    ::unlink(file.c_str());
  }
  ::close(descriptor);
}

/// Removes what processes of this machine that were killed have left.
void remove_abandoned(const path& directory) {
  if (machine_prefix().empty()) return;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(machine_prefix()) && name.ends_with(".tmp")) remove_if_abandoned(entry->path());
  }
}

/// Puts the open file `from` in the place of `target`.
void replace(int descriptor, const path& from, const path& target, std::span<const path> sources) {
  const auto old = find_old(target, sources);
  if (old) ::fchmod(descriptor, old->st_mode & permissions);  // file systems without permissions refuse it
  if (::fsync(descriptor) != 0) fail_errno(target, "cannot be written");
  if (std::rename(from.c_str(), target.c_str()) != 0) fail_errno(target, "cannot be replaced");
  sync_directory(directory_of(target));
}

}  // namespace

void check_target(const path& target, std::span<const path> sources) { find_old(target, sources); }

void place_file(const path& file, const path& target, std::span<const path> sources) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) fail_errno(file, "cannot be opened");
  try {
    replace(descriptor, file, target, sources);
  } catch (...) {
    ::close(descriptor);
    throw;
  }
  ::close(descriptor);
}

AtomicFile::AtomicFile(path target, std::vector<path> sources)
    : path_(std::move(target)), sources_(std::move(sources)) {
  create();
}

void AtomicFile::create() {
  static std::atomic<unsigned> counter{0};
  const auto old = find_old(path_, sources_);
  const mode_t mode = old ? old->st_mode & permissions : 0666;
  remove_abandoned(directory_of(path_));
  const std::string machine = machine_prefix().empty() ? ".gemlet-" : machine_prefix();
  const std::string process = machine + std::to_string(::getpid()) + "-";
  for (;;) {
    temporary_ = directory_of(path_) / (process + std::to_string(counter++) + ".tmp");
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (descriptor_ < 0 && errno == EEXIST) continue;  // processes of two containers may have one number
    if (descriptor_ < 0) fail_errno(path_, "cannot be written");
    while (::flock(descriptor_, LOCK_EX) != 0 && errno == EINTR) continue;  // file systems without locks refuse it
    if (is_at(descriptor_, temporary_)) return;
    ::close(std::exchange(descriptor_, -1));  // remove_abandoned was there between the two
  }
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
    if (written < 0) fail_errno(path_, "cannot be written");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  replace(descriptor_, temporary_, path_, sources_);
  ::close(descriptor_);
  descriptor_ = -1;
}

}  // namespace gemlet
