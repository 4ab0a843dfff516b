// The private part of gemlet._core behind `gemlet bench`.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "bindings/python_gil.hpp"
#include "bindings/python_module.hpp"
#include "engine/ceiling.hpp"
#include "engine/cpu.hpp"
#include "gemlet/gemlet.hpp"

namespace py = pybind11;

namespace gemlet {
namespace {

DType parse_type(const std::string& name) {
  for (std::uint32_t id = 0; id < dtype_table_size; ++id) {
    const DTypeTraits* found = find_dtype(id);
    if (found != nullptr && name == found->name) return static_cast<DType>(id);
  }
  throw Error(Error::Kind::argument, "type is \"" + name + "\", which is not a type of weights");
}

}  // namespace

void bind_bench(py::module_& m) {
  m.def("usable_cores", [] { return usable_cores(); });
  using Unlocked = py::call_guard<WithoutGil>;
  const auto of_type = [](double (Ceiling::*measure)(DType)) {
    return [measure](Ceiling& self, const std::string& type) { return (self.*measure)(parse_type(type)); };
  };
  py::class_<Ceiling>(m, "Ceiling")
      .def(py::init<const std::string&, int, std::size_t>(), py::arg("kernels"), py::arg("threads"),
           py::arg("buffer_bytes"), Unlocked())
      .def_property_readonly("kernels", &Ceiling::kernels)
      .def_property_readonly("threads", &Ceiling::threads)
      .def_property_readonly("types",
                             [](const Ceiling& self) {
                               std::vector<std::string> names;
                               for (const DType type : self.types()) names.emplace_back(traits(type).name);
                               return names;
                             })
      .def("read_bandwidth", &Ceiling::read_bandwidth, Unlocked())
      .def("multiply_adds_of_bytes", &Ceiling::multiply_adds_of_bytes, Unlocked())
      .def("multiply_adds_of_half_bytes", &Ceiling::multiply_adds_of_half_bytes, Unlocked())
      .def("multiply_adds_of_floats", &Ceiling::multiply_adds_of_floats, Unlocked())
      .def("one_token", of_type(&Ceiling::one_token), py::arg("type"), Unlocked())
      .def("many_tokens", of_type(&Ceiling::many_tokens), py::arg("type"), Unlocked());
}

}  // namespace gemlet
