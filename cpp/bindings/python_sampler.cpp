#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <utility>
#include <vector>

#include "bindings/python_module.hpp"
#include "engine/sampler.hpp"

namespace py = pybind11;

namespace gemlet {

py::tuple to_tuple(const SampledToken& sampled) {
  py::list top;
  for (const LogProb& other : sampled.top) top.append(py::make_tuple(other.token, other.logprob));
  return py::make_tuple(sampled.token, sampled.logprob, std::move(top));
}

void bind_sampler(py::module_& m) {
  py::class_<Sampling>(m, "Sampling")
      .def(py::init<>())
      .def_readwrite("temperature", &Sampling::temperature)
      .def_readwrite("top_k", &Sampling::top_k)
      .def_readwrite("top_p", &Sampling::top_p)
      .def_readwrite("min_p", &Sampling::min_p)
      .def_readwrite("repetition_penalty", &Sampling::repetition_penalty)
      .def_readwrite("presence_penalty", &Sampling::presence_penalty)
      .def_readwrite("frequency_penalty", &Sampling::frequency_penalty)
      .def_readwrite("logit_bias", &Sampling::logit_bias)
      .def_readwrite("seed", &Sampling::seed)
      .def_readwrite("top_logprobs", &Sampling::top_logprobs);
  py::class_<Sampler>(m, "Sampler")
      .def(py::init([](const Sampling& sampling, int vocabulary, const std::vector<Token>& prompt) {
             return Sampler(sampling, vocabulary, prompt);
           }),
           py::arg("sampling"), py::arg("vocabulary"), py::arg("prompt") = std::vector<Token>())
      .def(
          "sample",
          [](Sampler& self, const py::array_t<float, py::array::c_style | py::array::forcecast>& logits) {
            return to_tuple(self.sample({logits.data(), static_cast<std::size_t>(logits.size())}));
          },
          py::arg("logits"));
}

}  // namespace gemlet
