#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <vector>

#include "bindings/python_gil.hpp"
#include "bindings/python_module.hpp"
#include "format/atomic_file.hpp"
#include "format/checksum.hpp"

// The rules by which files are written, for gemlet.files.

namespace py = pybind11;

namespace gemlet {

void bind_files(py::module_& m) {
  using Paths = std::vector<std::filesystem::path>;
  m.def(
      "check_target", [](const std::filesystem::path& target, const Paths& sources) { check_target(target, sources); },
      py::arg("target"), py::arg("sources"),
      "Raises FileError unless nothing is at `target`, or a regular file that is none of `sources`.");
  m.def(
      "place_file",
      [](const std::filesystem::path& file, const std::filesystem::path& target, const Paths& sources) {
        const WithoutGil without_gil;
        place_file(file, target, sources);
      },
      py::arg("file"), py::arg("target"), py::arg("sources"),
      "Syncs a complete file and renames it to `target`, where check_target allows it.");
  m.def("file_checksum", &file_checksum, py::arg("path"), py::call_guard<WithoutGil>(),
        "A checksum of a file's bytes, as fast as they are read. It finds damage, not forgery.");
}

}  // namespace gemlet
