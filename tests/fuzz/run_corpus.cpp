#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz_input.hpp"

// Runs a fuzz target on every file of a folder, without libFuzzer: run_corpus FOLDER, or FILE for a finding. The last
// line before a crash names the file.
int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER|FILE\n", argv[0]);
    return 2;
  }
  std::vector<std::filesystem::path> files;
  if (std::filesystem::is_directory(argv[1])) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[1])) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
  } else {
    files.emplace_back(argv[1]);
  }
  int read = 0;
  for (const std::filesystem::path& path : files) {
    std::printf("%s\n", path.c_str());
    std::fflush(stdout);
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    if (!file) continue;
    ++read;
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  }
  const int unread = static_cast<int>(files.size()) - read;
  std::printf("%d passed, %d failed\n", read, unread);
  return read > 0 && unread == 0 ? 0 : 1;
}
