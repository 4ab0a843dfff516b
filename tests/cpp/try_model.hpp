#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gemlet/gemlet.hpp"

// Runs a file that may be hostile through everything that reads it: the mutation test and the fuzz target share this.

/// A file in memory, rewritten for each run: thousands of them cost the disk nothing.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(::memfd_create("hostile", 0)) {}
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }
  bool write(std::string_view bytes) const {
    return ::ftruncate(descriptor_, 0) == 0 &&
           ::pwrite(descriptor_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size());
  }

 private:
  int descriptor_;
};

enum Outcome { refused, loaded, computed, outcomes };

/// Loads the file, tokenizes, computes a prompt longer than the tiny models' window, and answers with a few tokens.
/// Anything but an Error comes out as it is.
inline Outcome try_model(const std::filesystem::path& path) {
  std::shared_ptr<const gemlet::Engine> engine;
  try {
    gemlet::EngineOptions options;
    options.threads = 1;
    options.context = 64;
    options.chunk = 4;
    engine = gemlet::Engine::load(path, options);
  } catch (const gemlet::Error&) {
    return refused;
  }
  try {
    const std::vector<gemlet::Token> tokens =
        engine->tokenize("hello world\n<start_of_turn>caf\xc3\xa9 \xff", true, true);
    (void)engine->detokenize(tokens, true);
    gemlet::Session session(engine);
    (void)session.prefill(tokens);
    gemlet::GenerateOptions options;
    options.max_tokens = 3;
    options.sampling.temperature = 0;
    options.stop = {"zz"};
    (void)gemlet::generate(session, tokens, options);
    return computed;
  } catch (const gemlet::Error&) {
    return loaded;
  }
}
