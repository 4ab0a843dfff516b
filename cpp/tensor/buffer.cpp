#include "tensor/buffer.hpp"

#include <sys/mman.h>

#include <string>

#include "gemlet/error.hpp"

namespace gemlet {

Buffer::Buffer(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw Error(Error::Kind::memory, "cannot allocate " + std::to_string(bytes) + " bytes");
  data_ = {static_cast<std::byte*>(p), Free{bytes}};
}

void Buffer::Free::operator()(std::byte* p) const noexcept { munmap(p, size); }

}  // namespace gemlet
