#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "format/map_guard.hpp"

namespace gemlet {

/// A whole file mapped read-only. Throws Error(io) naming the path for a missing file, a directory, an empty file or
/// one without read permission.
///
/// The size is the one at opening. Writers replace a file by renaming a new one over it: the map then stays what it
/// was, and nothing is wrong. A file that another process truncates or writes to in place changes under the map's
/// readers; this is what is noticed of it, always as an Error(io):
/// - A page that is gone reads as zeros instead of ending the process (MapGuard), and from then on check_intact()
/// throws.
///   Whoever computes from the map calls it before giving anything away. It costs one load.
/// - Another size or modification time: check_unchanged() throws. It costs one system call, so that it is called once
/// for
///   a prompt or a completion, at its beginning and at its end, and not for each token.
/// Not noticed are bytes that were changed between two calls of check_unchanged() by somebody who then sets the time
/// back, or within the same tick of the file system's clock (some milliseconds) in which the file was opened, and, by
/// those who call check_intact() alone, zeros behind the new end of the file within its last page.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, static_cast<std::size_t>(opened_.size)}; }

  /// Copies `part`, a piece of bytes(), without touching the map. A touched page stays in the process's resident set,
  /// and the system maps what it has cached around it too: up to megabytes for a row of a few kilobytes. Any number of
  /// threads may read at once. Throws Error(io) where the file no longer reaches so far.
  void read(std::span<const std::byte> part, std::byte* out) const;

  /// Throws Error(io) if a page of the map could not be read since it was made.
  void check_intact() const {
    if (guard_.damaged()) fail_damaged();
  }
  /// Throws Error(io) if check_intact() does, or the file's size or modification time is not that at opening.
  void check_unchanged() const;
  /// Tells the system that `part` is about to be read, so that several parts come from a slow disk together.
  void fetch(std::span<const std::byte> part) const noexcept;

 private:
  struct State {
    std::uint64_t size = 0;
    std::int64_t seconds = 0;  // of the last modification
    std::int64_t nanoseconds = 0;
    bool operator==(const State&) const = default;
  };

  static State state(const std::filesystem::path& path, int descriptor);
  [[noreturn]] void fail_changed(const State& now) const;
  [[noreturn]] void fail_damaged() const;

  std::filesystem::path path_;
  MapGuard guard_;
  int descriptor_ = -1;
  const std::byte* data_ = nullptr;
  State opened_;
};

/// What `read` returns, which reads `file`, a MappedFile or several. Where it throws, check_intact() comes first: what
/// could not be read is not to be taken for what is malformed. Where it does not, checking is left to the caller.
template <typename File, typename Read>
auto read_intact(const File& file, const Read& read) {
  try {
    return read();
  } catch (...) {
    file.check_intact();
    throw;
  }
}

}  // namespace gemlet
