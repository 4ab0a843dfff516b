#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "format/gguf_header.hpp"
#include "format/gguf_metadata.hpp"
#include "format/mapped_file.hpp"
#include "tensor/tensor.hpp"

namespace gemlet {

/// One of the files that a model is split into, or its only one.
struct GgufPart {
  explicit GgufPart(const std::filesystem::path& path)
      : file(path), contents(read_intact(file, [&] { return read_gguf(path, file.bytes()); })) {}

  MappedFile file;
  GgufContents contents;  ///< without its tensors, once they are the GgufFile's
};

/// A model in GGUF, version 2 or 3 (github.com/ggml-org/ggml/blob/master/docs/gguf.md): one file, or all parts of one
/// that `gguf-split` has cut, found beside the part that is given ("name-00001-of-00003.gguf"). Memory-mapped and read
/// as untrusted input.
///
/// The constructor checks everything that later code relies on: counts and lengths against the file size before any
/// allocation, no duplicate names, dimensions that do not overflow, rows that are whole blocks, offsets aligned (to 8
/// bytes at least) and inside the file, tensors that do not overlap, parts that belong together and are complete.
/// Tensors of unknown types are kept aside until something asks for them. Bytes after the last tensor are left alone.
/// Throws Error naming the file and the field or tensor.
///
/// The metadata is that of the first part, and so is the path.
class GgufFile : public GgufMetadata {
 public:
  explicit GgufFile(const std::filesystem::path& path);

  const std::deque<GgufPart>& parts() const { return parts_; }     ///< in order, at least one
  std::size_t file_bytes() const;                                  ///< of all parts
  const std::vector<Tensor>& tensors() const { return tensors_; }  ///< in file order, part after part

  /// Null if there is none of this name. Throws Error(unsupported) for one whose type is not read.
  const Tensor* find_tensor(std::string_view name) const;
  /// The part that a tensor's bytes lie in.
  const GgufPart& part_of(const Tensor& tensor) const;

  /// Of all parts, as MappedFile does it.
  void check_intact() const;
  void check_unchanged() const;

  /// The beginning of a GGUF file with the same metadata, but not split, and with so many tensors: everything before
  /// their table.
  std::string header(std::uint64_t tensor_count) const;

 private:
  explicit GgufFile(std::deque<GgufPart> parts);

  std::deque<GgufPart> parts_;
  std::vector<Tensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> tensor_index_;
  std::map<std::string, std::uint32_t, std::less<>> opaque_types_;
};

/// Whether a tensor belongs to an encoder of pictures or sound, which may stand in a text model's file or in one of its
/// own: llama.cpp and Ollama name it "v.*", "a.*" or "mm.*".
bool is_of_encoder(const Tensor& tensor);

/// Identifies a model: a hash of everything before the weights (configuration, vocabulary, tensor table) and of the
/// first bytes of each tensor. Two models that differ only further in would have to share every tensor's beginning;
/// reading all weights would take as long as reading the file.
std::uint64_t fingerprint(const GgufFile& file);
/// A fingerprint of something derived from a model: mixes more bytes into `hash` (64-bit FNV-1a).
std::uint64_t mix_fingerprint(std::uint64_t hash, const std::byte* data, std::size_t size);

}  // namespace gemlet
