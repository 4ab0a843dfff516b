#include "fuzz_input.hpp"
#include "try_model.hpp"

// Any bytes as a GGUF file: refused with an Error, or loaded and computed.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const MemoryFile file;
  fuzz::expect(file.write({reinterpret_cast<const char*>(data), size}), "the file in memory can be written");
  try_model(file.path());
  return 0;
}
