#include "format/gguf.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "format/split_file.hpp"
#include "gemlet/error.hpp"

namespace gemlet {
namespace {

std::string readable_types() {
  std::string names;
  for (std::uint32_t id = 0; id < dtype_table_size; ++id) {
    if (const DTypeTraits* found = find_dtype(id)) names += (names.empty() ? "" : ", ") + std::string(found->name);
  }
  return names;
}

}  // namespace

GgufFile::GgufFile(const std::filesystem::path& path) : GgufFile(open_parts(path)) {}

GgufFile::GgufFile(std::deque<GgufPart> parts)
    : GgufMetadata(std::move(parts.front().contents.metadata)), parts_(std::move(parts)) {
  const auto check_new = [&](const GgufPart& part, const std::string& name) {
    if (tensor_index_.contains(name) || opaque_types_.contains(name)) {
      throw Error(Error::Kind::format,
                  part.file.path().string() + ": tensor " + quote(name) + ": an earlier part has one of this name");
    }
  };
  for (GgufPart& part : parts_) {
    for (const OpaqueTensor& tensor : part.contents.opaque_tensors) {
      check_new(part, tensor.name);
      opaque_types_.emplace(tensor.name, tensor.type);
    }
    for (Tensor& tensor : part.contents.tensors) {
      check_new(part, tensor.name);
      tensor_index_.emplace(tensor.name, tensors_.size());
      tensors_.push_back(std::move(tensor));
    }
    part.contents.tensors.clear();
  }
}

std::size_t GgufFile::file_bytes() const {
  std::size_t bytes = 0;
  for (const GgufPart& part : parts_) bytes += part.file.bytes().size();
  return bytes;
}

const Tensor* GgufFile::find_tensor(std::string_view name) const {
  if (const auto opaque = opaque_types_.find(name); opaque != opaque_types_.end()) {
    throw Error(Error::Kind::unsupported, path().string() + ": tensor " + quote(name) + ": type is " +
                                              tensor_type_name(opaque->second) + ", expected one of " +
                                              readable_types());
  }
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

const GgufPart& GgufFile::part_of(const Tensor& tensor) const {
  return *std::find_if(parts_.begin(), std::prev(parts_.end()), [&](const GgufPart& part) {
    const auto bytes = part.file.bytes();
    return std::less_equal<>()(bytes.data(), tensor.data) && std::less<>()(tensor.data, bytes.data() + bytes.size());
  });
}

void GgufFile::check_intact() const {
  for (const GgufPart& part : parts_) part.file.check_intact();
}

void GgufFile::check_unchanged() const {
  for (const GgufPart& part : parts_) part.file.check_unchanged();
}

std::string GgufFile::header(std::uint64_t tensor_count) const {
  const GgufPart& first = parts_.front();
  const std::span<const std::byte> bytes = first.file.bytes();
  const auto text = [](std::span<const std::byte> part) {
    return std::string_view(reinterpret_cast<const char*>(part.data()), part.size());
  };
  const auto number = [](std::uint64_t value) {
    std::string stored(sizeof(value), '\0');
    std::memcpy(stored.data(), &value, sizeof(value));
    return stored;
  };
  constexpr std::size_t magic_and_version = 8;
  constexpr std::size_t counts = 16;
  const std::uint64_t pairs = values().size() - first.contents.split_keys.size();
  std::string out(text(bytes.first(magic_and_version)));
  out += number(tensor_count) + number(pairs);
  std::size_t copied = magic_and_version + counts;
  for (const std::span<const std::byte> pair : first.contents.split_keys) {
    const auto begin = static_cast<std::size_t>(pair.data() - bytes.data());
    out += text(bytes.subspan(copied, begin - copied));
    copied = begin + pair.size();
  }
  out += text(bytes.subspan(copied, first.contents.metadata_end - copied));
  return out;
}

bool is_of_encoder(const Tensor& tensor) {
  constexpr std::string_view beginnings[] = {"v.", "a.", "mm."};
  return std::any_of(std::begin(beginnings), std::end(beginnings),
                     [&](std::string_view beginning) { return tensor.name.starts_with(beginning); });
}

std::uint64_t mix_fingerprint(std::uint64_t hash, const std::byte* data, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) hash = (hash ^ std::to_integer<std::uint64_t>(data[i])) * 0x100000001b3ULL;
  return hash;
}

std::uint64_t fingerprint(const GgufFile& file) {
  constexpr std::size_t sample = 4096;
  std::uint64_t hash = 0xcbf29ce484222325ULL ^ file.file_bytes();
  for (const GgufPart& part : file.parts()) {
    hash = mix_fingerprint(hash, part.file.bytes().data(), part.contents.data_begin);
  }
  std::byte head[sample];
  for (const Tensor& tensor : file.tensors()) {
    const std::size_t size = std::min(sample, tensor.bytes());
    file.part_of(tensor).file.read({tensor.data, size}, head);  // not through the map: a tensor on flash stays there
    hash = mix_fingerprint(hash, head, size);
  }
  return hash;
}

}  // namespace gemlet
