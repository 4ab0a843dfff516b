#include "bindings/python_engine.hpp"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "bindings/python_gil.hpp"
#include "bindings/python_prompt.hpp"
#include "engine/engine.hpp"
#include "model/slice.hpp"
#include "text/markers.hpp"
#include "text/turns.hpp"

namespace py = pybind11;

namespace gemlet {
namespace {

py::dict to_dict(const ModelInfo& info) {
  py::list tensors;
  for (const TensorInfo& tensor : info.tensors) {
    py::dict entry;
    entry["name"] = to_str(tensor.name);
    entry["type"] = tensor.type;
    entry["shape"] = py::tuple(py::cast(tensor.shape));
    entry["bytes"] = tensor.bytes;
    entry["on_flash"] = tensor.on_flash;
    tensors.append(std::move(entry));
  }
  py::list layers;
  for (const LayerInfo& layer : info.layer_info) {
    py::dict entry;
    entry["index"] = layer.index;
    entry["kv_source"] = layer.kv_source;
    entry["kv_heads"] = layer.kv_heads;
    entry["head_dim"] = layer.head_dim;
    entry["window"] = layer.window;
    entry["intermediate_size"] = layer.intermediate_size;
    layers.append(std::move(entry));
  }
  py::dict out;
  out["architecture"] = to_str(info.architecture);
  out["name"] = to_str(info.name);
  out["chat_template"] = to_str(info.chat_template);
  out["vocabulary"] = info.vocabulary;
  out["hidden_size"] = info.hidden_size;
  out["layers"] = info.layers;
  out["file_layers"] = info.file_layers;
  out["trained_context"] = info.trained_context;
  out["layer_info"] = std::move(layers);
  out["hyperparameters"] = info.hyperparameters;
  out["kernels"] = info.kernels;
  out["threads"] = info.threads;
  out["context"] = info.context;
  out["file_bytes"] = info.file_bytes;
  out["encoder_bytes"] = info.encoder_bytes;
  out["fingerprint"] = info.fingerprint;
  out["tensors"] = std::move(tensors);
  return out;
}

py::dict to_dict(const Work& work) {
  py::dict out;
  out["weight_bytes"] = work.weight_bytes;
  out["multiply_adds"] = work.multiply_adds;
  out["barriers"] = work.barriers;
  return out;
}

}  // namespace

void bind_slice(py::module_& m) {
  py::class_<Slice>(m, "Slice")
      .def(py::init([](double ffn_share, std::vector<int> ffn_widths, std::vector<int> dropped_layers, int of_layers) {
             return Slice{ffn_share, std::move(ffn_widths), std::move(dropped_layers), of_layers};
           }),
           py::kw_only(), py::arg("ffn_share") = 1.0, py::arg("ffn_widths") = std::vector<int>(),
           py::arg("dropped_layers") = std::vector<int>(), py::arg("of_layers") = 0)
      .def_static("parse", &Slice::parse, py::arg("text"))
      .def(
          "apply",
          [](const Slice& self, const std::vector<std::size_t>& widths, const std::vector<std::size_t>& kv_layers,
             std::size_t block) {
            std::vector<SliceableLayer> layers;
            for (std::size_t i = 0; i < widths.size(); ++i) layers.push_back({i, kv_layers.at(i), widths[i], block});
            std::vector<std::pair<std::size_t, std::size_t>> kept;
            for (const KeptLayer& layer : apply_slice(self, layers)) kept.emplace_back(layer.place, layer.width);
            return kept;
          },
          py::arg("widths"), py::arg("kv_layers"), py::arg("block"));
}

void bind_engine(py::module_& m) {
  m.attr("AROUND_MEDIA") = std::string(around_media);
  py::class_<PyEngine>(m, "Engine")
      .def_static(
          "load",
          [](const std::filesystem::path& path, int threads, int context, int chunk, const std::string& cache,
             const Slice& slice, const std::string& kernels) {
            const EngineOptions options{threads, context, chunk, parse_cache_type(cache), slice, kernels};
            const WithoutGil without_gil;
            return PyEngine{Engine::load(path, options)};
          },
          py::arg("path"), py::kw_only(), py::arg("threads") = EngineOptions().threads,
          py::arg("context") = EngineOptions().context, py::arg("chunk") = EngineOptions().chunk,
          py::arg("cache") = "f16", py::arg("slice") = Slice(), py::arg("kernels") = "")
      .def("info", [](const PyEngine& self) { return to_dict(self->info()); })
      .def("work", [](const PyEngine& self) { return to_dict(self->work()); })
      .def(
          "tokenize",
          [](const PyEngine& self, const py::bytes& text, bool bos, bool special) {
            const std::string_view view(text);
            const WithoutGil without_gil;
            return self->tokenize(view, bos, special);
          },
          py::arg("text"), py::kw_only(), py::arg("bos") = false, py::arg("special") = true)
      .def(
          "detokenize",
          [](const PyEngine& self, const std::vector<Token>& tokens, bool special) {
            return py::bytes(self->detokenize(tokens, special));
          },
          py::arg("tokens"), py::kw_only(), py::arg("special") = false)
      .def(
          "prompt",
          [](const PyEngine& self, const PyTurns& turns, const std::string& end) {
            const std::vector<Turn> conversation = to_turns(turns);
            const PromptOptions options{.end = parse_prompt_end(end)};
            const WithoutGil without_gil;
            return self->prompt(conversation, options);
          },
          py::arg("turns"), py::arg("end") = "generation_prompt")
      .def(
          "prompt_of_medium",
          [](const PyEngine& self, const std::shared_ptr<Medium>& medium) {
            Prompt prompt;
            append_medium(Engine::Impl::of(*self.engine).tokenizer, *medium, prompt);
            return prompt;
          },
          py::arg("medium"))
      .def("piece", [](const PyEngine& self, Token token) { return py::bytes(self->piece(token)); })
      .def("kind", [](const PyEngine& self, Token token) { return name_of(self->kind(token)); })
      .def("find_token",
           [](const PyEngine& self, const py::bytes& piece) { return self->find_token(std::string_view(piece)); })
      .def("is_end", [](const PyEngine& self, Token token) { return self->is_end(token); })
      .def(
          "fewest_tokens",
          [](const PyEngine& self, std::size_t bytes) {
            return Engine::Impl::of(*self.engine).tokenizer.fewest_tokens(bytes);
          },
          py::arg("bytes"))
      .def("files", [](const PyEngine& self) { return Engine::Impl::of(*self.engine).files(); })
      .def_property_readonly("bos", [](const PyEngine& self) { return self->bos(); })
      .def(
          "session",
          [](const PyEngine& self, int context) { return std::make_shared<PySession>(Session(self.engine, context)); },
          py::arg("context") = 0)
      .def(
          "restore",
          [](const PyEngine& self, const std::filesystem::path& path, int context) {
            const WithoutGil without_gil;
            return std::make_shared<PySession>(Session::restore(self.engine, path, context));
          },
          py::arg("path"), py::arg("context") = 0)
      .def("generate_batch", &Generation::batch, py::arg("prompts"), py::arg("options"))
      .def(
          "scheduler",
          [](const PyEngine& self, int sequences, int prompt_rows, int max_waiting, int prefixes,
             std::size_t prefix_bytes) {
            return std::make_unique<Scheduler>(
                self.engine, SchedulerOptions{sequences, prompt_rows, max_waiting, prefixes, prefix_bytes});
          },
          py::kw_only(), py::arg("sequences"), py::arg("prompt_rows"), py::arg("max_waiting"), py::arg("prefixes"),
          py::arg("prefix_bytes"))
      .def("special_tokens", [](const PyEngine& self) { return special_tokens(*self.engine, self->info().vocabulary); })
      .def("guarded_tokens", [](const PyEngine& self) {
        std::vector<Token> out;
        for (Token token = 0; token < self->info().vocabulary; ++token) {
          if (is_guarded(self->piece(token), self->kind(token))) out.push_back(token);
        }
        return out;
      });
}

}  // namespace gemlet
