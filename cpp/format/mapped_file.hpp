#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace gemlet {

/// A whole file mapped read-only. Throws Error(io) naming the path for a missing file, a directory, an empty file or
/// one without read permission.
///
/// The size is the one at opening. Nothing can make a map safe against another process that truncates the file in
/// place: reading a page that is gone raises SIGBUS. Writers replace a model by renaming a new file over it.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }

  /// Tells the system that `part` (a piece of bytes()) is read at random: no read-ahead, so that a row of the
  /// per-layer table costs the pages it lies on and no more.
  void expect_random(std::span<const std::byte> part) const noexcept;

  /// Bytes of the pages of `part` that are in memory now, whoever read them; 0 where the system does not say.
  std::size_t resident_bytes(std::span<const std::byte> part) const;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace gemlet
