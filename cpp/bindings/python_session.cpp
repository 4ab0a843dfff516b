#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "bindings/python_engine.hpp"
#include "bindings/python_gil.hpp"
#include "bindings/python_prompt.hpp"

namespace py = pybind11;

namespace gemlet {
namespace {

py::array_t<float> copy_logits(std::span<const float> logits, std::vector<py::ssize_t> shape) {
  py::array_t<float> out(std::move(shape));
  std::copy(logits.begin(), logits.end(), out.mutable_data());
  return out;
}

py::array_t<float> prefill(PySession& self, const Prompt& prompt, bool all) {
  const Busy::Use use(self.busy);
  std::span<const float> logits;
  run_interruptible(
      [&](const Cancel* cancel) { logits = self.session.prefill(prompt, all ? Logits::all : Logits::last, cancel); });
  const auto vocabulary = static_cast<py::ssize_t>(self.session.engine().info().vocabulary);
  if (!all) return copy_logits(logits, {vocabulary});
  return copy_logits(logits, {static_cast<py::ssize_t>(prompt.tokens.size()), vocabulary});
}

/// The output of each layer, float[streams][tokens][hidden], of all tokens, whatever the chunks they were computed in.
py::list prefill_layers(PySession& self, const Prompt& prompt) {
  const Busy::Use use(self.busy);
  const std::size_t positions = prompt.tokens.size();
  const ModelInfo& info = self.session.engine().info();
  const auto hidden = static_cast<std::size_t>(info.hidden_size);
  std::vector<std::vector<std::vector<float>>> chunks(static_cast<std::size_t>(info.layers));
  self.session.on_layer([&](std::size_t layer, std::span<const float> streams) {
    chunks[layer].emplace_back(streams.begin(), streams.end());
  });
  try {
    run_interruptible([&](const Cancel* cancel) { self.session.prefill(prompt, Logits::all, cancel); });
  } catch (...) {
    self.session.on_layer({});
    throw;
  }
  self.session.on_layer({});
  py::list out;
  for (const auto& layer : chunks) {
    std::size_t floats = 0;
    for (const auto& chunk : layer) floats += chunk.size();
    const std::size_t count = floats / (positions * hidden);
    py::array_t<float> streams({count, positions, hidden});
    float* row = streams.mutable_data();
    for (std::size_t i = 0; i < count; ++i) {
      for (const auto& chunk : layer) {
        const std::size_t size = chunk.size() / count;
        row = std::copy_n(chunk.data() + i * size, size, row);
      }
    }
    out.append(std::move(streams));
  }
  return out;
}

void step(const std::vector<std::shared_ptr<PySession>>& sessions, const std::vector<Token>& tokens) {
  std::vector<std::unique_ptr<Busy::Use>> uses;
  std::vector<Session*> raw;
  for (const auto& session : sessions) {
    uses.push_back(std::make_unique<Busy::Use>(session->busy));
    raw.push_back(&session->session);
  }
  run_interruptible([&](const Cancel* cancel) { Session::step(raw, tokens, cancel); });
}

}  // namespace

void bind_session(py::module_& m) {
  py::class_<PySession, std::shared_ptr<PySession>>(m, "Session")
      .def("prefill", &prefill, py::arg("tokens"), py::arg("all") = false)
      .def("prefill_layers", &prefill_layers, py::arg("tokens"))
      .def("logits",
           [](PySession& self) {
             const Busy::Use use(self.busy);
             const std::span<const float> logits = self.session.logits();
             return copy_logits(logits, {static_cast<py::ssize_t>(logits.size())});
           })
      .def(
          "rewind",
          [](PySession& self, int position) {
            const Busy::Use use(self.busy);
            self.session.rewind(position);
          },
          py::arg("position"))
      .def(
          "advance_to",
          [](PySession& self, const Prompt& prompt) {
            const Busy::Use use(self.busy);
            int reused = 0;
            run_interruptible([&](const Cancel* cancel) { reused = self.session.advance_to(prompt, cancel); });
            return reused;
          },
          py::arg("tokens"))
      .def("fork",
           [](PySession& self) {
             const WithoutGil without_gil;
             const Busy::Use use(self.busy);
             return std::make_shared<PySession>(self.session.fork());
           })
      .def(
          "save",
          [](PySession& self, const std::filesystem::path& path) {
            const WithoutGil without_gil;
            const Busy::Use use(self.busy);
            self.session.save(path);
          },
          py::arg("path"))
      .def_static("step_all", &step, py::arg("sessions"), py::arg("tokens"))
      .def("generate", &Generation::one, py::arg("prompt"), py::arg("options"))
      .def_property_readonly("context", [](const PySession& self) { return self.context; })
      .def_property_readonly("position",
                             [](PySession& self) {
                               const Busy::Use use(self.busy);
                               return self.session.position();
                             })
      .def_property_readonly("media",
                             [](PySession& self) {
                               const Busy::Use use(self.busy);
                               return to_tuples(self.session.media());
                             })
      .def_property_readonly("tokens", [](PySession& self) {
        const Busy::Use use(self.busy);
        const std::span<const Token> tokens = self.session.tokens();
        return std::vector<Token>(tokens.begin(), tokens.end());
      });
}

}  // namespace gemlet
