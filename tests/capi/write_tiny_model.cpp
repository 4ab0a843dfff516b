#include <cstdio>
#include <fstream>

#include "tiny_gemma3n.hpp"

// Writes the model of tiny_gemma3n.hpp for programs that are not written in C++: write_tiny_model FILE [smallest]
int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s FILE [smallest]\n", argv[0]);
    return 2;
  }
  const tiny::Shape shape = argc > 2 ? tiny::smallest() : tiny::Shape{};
  std::ofstream file(argv[1], std::ios::binary);
  file << tiny::gemma3n(shape).build().bytes;
  file.close();
  return file ? 0 : 1;
}
