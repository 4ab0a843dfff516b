#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace gemlet {

/// A file that appears under its name only when it is complete: written beside it under a temporary name, synced and
/// renamed by commit(); removed otherwise. Throws Error(io) naming the path and the system's reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void commit();

 private:
  [[noreturn]] void fail(const char* action) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

}  // namespace gemlet
