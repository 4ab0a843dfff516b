#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace gemlet {

/// A whole file mapped read-only. Throws Error(io) naming the path for a missing file, a directory, an empty file or
/// one without read permission.
///
/// The size is the one at opening. Nothing can make a map safe against another process that truncates the file in
/// place: touching a page that is gone raises SIGBUS. Writers replace a model by renaming a new file over it.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  /// Copies `part`, a piece of bytes(), without touching the map. A touched page stays in the process's resident set,
  /// and the system maps what it has cached around it too: up to megabytes for a row of a few kilobytes. Any number of
  /// threads may read at once. Throws Error(io) where the file no longer reaches so far.
  void read(std::span<const std::byte> part, std::byte* out) const;

  /// Tells the system that `part` is about to be read, so that several parts come from a slow disk together.
  void fetch(std::span<const std::byte> part) const noexcept;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace gemlet
