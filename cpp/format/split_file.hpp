#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>

#include "format/gguf.hpp"

namespace gemlet {

/// The name of one part of a split file, as llama.cpp's gguf-split writes it: "gemma-00002-of-00003.gguf".
struct SplitName {
  std::string stem;          ///< "gemma"
  std::uint32_t number = 0;  ///< from 1
  std::uint32_t count = 0;

  static std::optional<SplitName> parse(const std::string& file_name);
  std::string part(std::uint32_t other) const;  ///< the file name of another part
};

/// Opens a file and, if its metadata says that it is one part of several, all others beside it. Throws Error naming the
/// part that is missing or does not belong.
std::deque<GgufPart> open_parts(const std::filesystem::path& path);

}  // namespace gemlet
