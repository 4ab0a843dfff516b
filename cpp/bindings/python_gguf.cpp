#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <string>
#include <utility>

#include "bindings/python_module.hpp"
#include "format/gguf.hpp"
#include "model/config.hpp"
#include "model/weights.hpp"

// What a model file holds and where, for those who make another file of it.

namespace gemlet {
namespace {

namespace py = pybind11;

py::dict to_dict(const LayerConfig& layer) {
  py::dict out;
  out["intermediate_size"] = layer.intermediate_size;
  out["sliding"] = layer.sliding;
  out["sparsity_scale"] = layer.sparse ? py::object(py::float_(layer.sparsity_scale)) : py::none();
  out["owns_kv"] = layer.owns_kv;
  out["kv_layer"] = layer.kv_layer;
  return out;
}

py::dict to_dict(const Gemma3nConfig& config) {
  py::list layers;
  for (const LayerConfig& layer : config.layers) layers.append(to_dict(layer));
  py::dict out;
  out["vocab_size"] = config.vocab_size;
  out["hidden_size"] = config.hidden_size;
  out["hidden_size_per_layer_input"] = config.hidden_size_per_layer_input;
  out["num_attention_heads"] = config.num_attention_heads;
  out["num_key_value_heads"] = config.num_key_value_heads;
  out["head_dim"] = config.head_dim;
  out["sliding_window"] = config.sliding_window;
  out["altup_num_inputs"] = config.altup_num_inputs;
  out["altup_active_idx"] = config.altup_active_idx;
  out["laurel_rank"] = config.laurel_rank;
  out["max_position_embeddings"] = config.max_position_embeddings;
  out["rms_norm_eps"] = config.rms_norm_eps;
  out["rope_theta"] = config.rope_theta;
  out["rope_local_base_freq"] = config.rope_local_base_freq;
  out["final_logit_softcapping"] = config.final_logit_softcapping;
  out["layers"] = std::move(layers);
  return out;
}

py::dict read_model_file(const std::filesystem::path& path) {
  const GgufFile file(path);
  const Gemma3nConfig config = read_gemma3n_config(file);
  const auto weights = read_gemma3n_weights(file, config);
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
  py::dict out;
  out["config"] = to_dict(config);
  out["per_layer_rows"] = weights->embed_tokens_per_layer.rows();
  out["alignment"] = file.parts().front().contents.alignment;
  out["tensors"] = std::move(tensors);
  return out;
}

}  // namespace

void bind_gguf(py::module_& m) {
  m.def(
      "gguf_header",
      [](const std::filesystem::path& path, std::uint64_t tensor_count) {
        return py::bytes(GgufFile(path).header(tensor_count));
      },
      py::arg("path"), py::arg("tensor_count"),
      "The beginning of a GGUF file with the metadata of this one, but not split, and with so many tensors: everything "
      "before their table.");
  m.def("read_model_file", &read_model_file, py::arg("path"),
        "The configuration of a Gemma 3n GGUF file, every shape checked, and where its tensors are; no weights are "
        "read.");
}

}  // namespace gemlet
