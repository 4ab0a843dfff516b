#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "try_model.hpp"

// Any bytes as a GGUF file: refused with an Error, or loaded and computed. Run with limits, as scripts/test_sanitizers
// does: fuzz_gguf -malloc_limit_mb=256 -rss_limit_mb=1024 -timeout=20 CORPUS
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const MemoryFile file;
  if (!file.write({reinterpret_cast<const char*>(data), size})) std::abort();
  try_model(file.path());
  return 0;
}
