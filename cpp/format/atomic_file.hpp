#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

namespace gemlet {

/// Throws Error(io) unless a file may be written at `target`: nothing is there yet, or a regular file that is none of
/// `sources` under any name.
///
/// A symbolic link is refused, and the message says where it leads. Renaming a file over it would cut the link, and
/// writing through it would let whoever made it choose the file; a user who wants that names the other file.
void check_target(const std::filesystem::path& target, std::span<const std::filesystem::path> sources = {});

/// Gives a complete file its place: syncs it, renames it and syncs the directory. An old file keeps its permissions and
/// stays until then. Throws Error(io), also for what check_target refuses.
void place_file(const std::filesystem::path& file, const std::filesystem::path& target,
                std::span<const std::filesystem::path> sources = {});

/// A file that appears under its name only when it is complete: written beside it under a temporary name that no other
/// process or thread has, placed by commit(), and removed otherwise. It is locked until then: the next one in the same
/// directory removes those that nobody has locked any more, whose processes were killed. Throws Error(io) naming the
/// path and the system's reason, also for what check_target refuses.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path, std::vector<std::filesystem::path> sources = {});
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void commit();

 private:
  void create();

  std::filesystem::path path_;
  std::vector<std::filesystem::path> sources_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

}  // namespace gemlet
