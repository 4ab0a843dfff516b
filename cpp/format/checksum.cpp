#include "format/checksum.hpp"

#include <algorithm>
#include <vector>

#include "format/mapped_file.hpp"

namespace gemlet {

std::uint64_t file_checksum(const std::filesystem::path& path) {
  constexpr std::size_t piece = std::size_t{1} << 20;
  const MappedFile file(path);
  Checksum sum;
  std::vector<std::byte> buffer(piece);
  for (std::size_t done = 0; done < file.bytes().size(); done += piece) {
    const std::size_t count = std::min(piece, file.bytes().size() - done);
    const std::size_t padded = (count + Checksum::block - 1) / Checksum::block * Checksum::block;
    file.read(file.bytes().subspan(done, count), buffer.data());
    std::fill(buffer.data() + count, buffer.data() + padded, std::byte{0});
    sum.add(std::span(buffer).first(padded));
  }
  return sum.value();
}

}  // namespace gemlet
