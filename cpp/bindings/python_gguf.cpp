#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <string>
#include <utility>

#include "bindings/python_module.hpp"
#include "encoders/audio_usm.hpp"
#include "format/gguf.hpp"
#include "format/reader.hpp"
#include "gemlet/media.hpp"
#include "model/registry.hpp"
#include "text/tokenizer.hpp"
#include "text/vocabulary.hpp"

// What a model file holds and where, for those who make another file of it.

namespace gemlet {
namespace {

namespace py = pybind11;

py::list to_list(const std::vector<LayerShape>& layers) {
  py::list out;
  for (const LayerShape& layer : layers) {
    py::dict entry;
    entry["file_index"] = layer.file_index;
    entry["kv_source"] = layer.kv_source;
    entry["kv_heads"] = layer.kv_heads;
    entry["head_dim"] = layer.head_dim;
    entry["window"] = layer.window;
    entry["rope"] = layer.rope;
    entry["intermediate_size"] = layer.intermediate_size;
    out.append(std::move(entry));
  }
  return out;
}

py::dict describe_tensors(const GgufFile& file) {
  py::dict tensors;
  for (const Tensor& tensor : file.tensors()) {
    py::dict entry;
    entry["type"] = traits(tensor.type).name;
    entry["shape"] = py::tuple(py::cast(std::vector<std::int64_t>(
        tensor.shape.begin(), tensor.shape.begin() + static_cast<std::ptrdiff_t>(tensor.rank))));
    const MappedFile& part = file.part_of(tensor).file;
    entry["file"] = part.path();
    entry["offset"] = static_cast<std::size_t>(tensor.data - part.bytes().data());
    entry["bytes"] = tensor.bytes();
    tensors[py::str(std::string(tensor.name))] = std::move(entry);
  }
  return tensors;
}

py::dict describe_file(const GgufFile& file) {
  require_architecture(file);
  const auto model = load_model(file, static_cast<std::size_t>(Tokenizer(file).vocabulary()));
  py::dict out;
  out["architecture"] = std::string(file.get_string("general.architecture"));
  out["hyperparameters"] = model->hyperparameters();
  out["layers"] = to_list(model->shape().layers);
  out["alignment"] = file.parts().front().contents.alignment;
  out["tensors"] = describe_tensors(file);
  return out;
}

py::dict describe_encoders(const GgufFile& file) {
  const Reader read(file, "clip.audio");
  py::dict out;
  out["mel_bins"] = read.size("num_mel_bins", 0, 512, 0);
  out["filled_tokens"] = AudioUsm::read_filled_tokens(read);
  out["alignment"] = file.parts().front().contents.alignment;
  out["tensors"] = describe_tensors(file);
  return out;
}

/// The id that a file gives a token, or None.
py::object find_id(const GgufFile& file, std::string_view key) {
  return file.contains(key) ? py::object(py::int_(file.get_u32(key))) : py::none();
}

py::dict describe_vocabulary(const GgufFile& file) {
  const Vocabulary vocabulary(file);
  py::list kinds;
  py::list pieces;
  for (Token token = 0; token < vocabulary.size(); ++token) {
    kinds.append(name_of(vocabulary.kind(token)));
    pieces.append(py::bytes(std::string(vocabulary.piece(token))));
  }
  py::list merges;
  if (!vocabulary.by_score()) {
    for (const std::string_view merge : file.get_strings("tokenizer.ggml.merges")) {
      merges.append(py::bytes(std::string(merge)));
    }
  }
  py::dict out;
  out["pieces"] = std::move(pieces);
  out["kinds"] = std::move(kinds);
  out["scores"] = vocabulary.by_score() ? py::object(py::cast(file.get_numbers("tokenizer.ggml.scores"))) : py::none();
  out["merges"] = std::move(merges);
  out["space_prefix"] = vocabulary.space_prefix();
  out["add_bos"] = file.find_bool("tokenizer.ggml.add_bos_token", true);
  out["bos"] = vocabulary.bos();
  out["eos"] = find_id(file, "tokenizer.ggml.eos_token_id");
  out["pad"] = find_id(file, "tokenizer.ggml.padding_token_id");
  out["unknown"] = vocabulary.unknown() == no_token ? py::none() : py::object(py::int_(vocabulary.unknown()));
  py::list ends;
  for (Token token = 0; token < vocabulary.size(); ++token) {
    if (vocabulary.is_end(token)) ends.append(token);
  }
  out["ends"] = std::move(ends);
  return out;
}

py::dict read_model_file(const std::filesystem::path& path) {
  const GgufFile file(path);
  py::dict found = read_intact(file, [&] { return describe_file(file); });
  file.check_unchanged();
  return found;
}

py::dict read_encoders_file(const std::filesystem::path& path) {
  EngineOptions options;
  options.threads = 1;
  const auto encoders = Encoders::load(path, options);  // checks every shape
  const GgufFile file(path);
  py::dict found = read_intact(file, [&] { return describe_encoders(file); });
  file.check_unchanged();
  found["picture_size"] = encoders->picture_size();
  return found;
}

py::dict read_vocabulary(const std::filesystem::path& path) {
  const GgufFile file(path);
  py::dict found = read_intact(file, [&] { return describe_vocabulary(file); });
  file.check_unchanged();
  return found;
}

py::bytes read_header(const std::filesystem::path& path, std::uint64_t tensor_count) {
  const GgufFile file(path);
  std::string header = file.header(tensor_count);
  file.check_unchanged();
  return header;
}

}  // namespace

void bind_gguf(py::module_& m) {
  m.def("gguf_header", &read_header, py::arg("path"), py::arg("tensor_count"),
        "The beginning of a GGUF file with the metadata of this one, but not split, and with so many tensors: "
        "everything before their table.");
  m.def("read_model_file", &read_model_file, py::arg("path"),
        "The configuration of a GGUF file, every shape checked, and where its tensors are; no weights are "
        "read.");
  m.def("read_encoders_file", &read_encoders_file, py::arg("path"),
        "Where the tensors of a file with encoders are, every shape of the encoders' checked.");
  m.def("read_vocabulary", &read_vocabulary, py::arg("path"),
        "The tokenizer of a GGUF file, for those who write it in another form.");
}

}  // namespace gemlet
