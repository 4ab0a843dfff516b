#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl/filesystem.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bindings/busy.hpp"
#include "bindings/python_gil.hpp"
#include "bindings/python_job.hpp"
#include "bindings/python_module.hpp"
#include "encoders/picture.hpp"
#include "gemlet/media.hpp"

namespace py = pybind11;

namespace gemlet {
namespace {

struct PySoundStream {
  explicit PySoundStream(const std::shared_ptr<const Encoders>& encoders)
      : hidden_size(encoders->hidden_size()), stream(encoders) {}

  int hidden_size;
  SoundStream stream;
  Busy busy{"sound stream"};
};

using Pixels = py::array_t<std::uint8_t, py::array::c_style>;

Picture view(const Pixels& pixels) {
  if (pixels.ndim() != 3 || pixels.shape(2) != 3) {
    throw Error(Error::Kind::argument, "the picture's pixels: expected uint8[height][width][3]");
  }
  const auto width = static_cast<std::size_t>(pixels.shape(1));
  return {pixels.data(), width, static_cast<std::size_t>(pixels.shape(0)), 3 * width};
}

py::array_t<float> encode(const Encoders& self, const Pixels& pixels, int size) {
  const Picture picture = view(pixels);
  std::vector<float> rows;
  run_interruptible([&](const Cancel* cancel) { rows = self.encode(picture, size, cancel); });
  const auto hidden = static_cast<py::ssize_t>(self.hidden_size());
  py::array_t<float> out({static_cast<py::ssize_t>(rows.size()) / hidden, hidden});
  std::copy(rows.begin(), rows.end(), out.mutable_data());
  return out;
}

}  // namespace

void bind_media(py::module_& m) {
  m.def(
      "resize",
      [](const Pixels& pixels, std::size_t width, std::size_t height) {
        const std::vector<std::uint8_t> resized = resize(view(pixels), width, height);
        Pixels out({static_cast<py::ssize_t>(height), static_cast<py::ssize_t>(width), py::ssize_t{3}});
        std::copy(resized.begin(), resized.end(), out.mutable_data());
        return out;
      },
      py::arg("pixels"), py::arg("width"), py::arg("height"));

  py::class_<Encoders, std::shared_ptr<Encoders>>(m, "Encoders")
      .def_static(
          "load",
          [](const std::filesystem::path& path, int threads, const std::string& kernels) {
            const WithoutGil without_gil;
            EngineOptions options;
            options.threads = threads;
            options.kernels = kernels;
            return std::const_pointer_cast<Encoders>(Encoders::load(path, options));
          },
          py::arg("path"), py::arg("threads") = 0, py::arg("kernels") = "")
      .def_property_readonly("sees", &Encoders::sees)
      .def("encode", &encode, py::arg("pixels"), py::arg("size") = 768)
      .def_property_readonly("hears", &Encoders::hears)
      .def_property_readonly("hidden_size", &Encoders::hidden_size)
      .def("sound", [](const std::shared_ptr<Encoders>& self) { return std::make_unique<PySoundStream>(self); });

  py::class_<PySoundStream>(m, "SoundStream")
      .def(
          "feed",
          [](PySoundStream& self, const py::array& given) {
            const bool is_sound = given.ndim() == 1 && (given.dtype().equal(py::dtype::of<float>()) ||
                                                        given.dtype().equal(py::dtype::of<double>()));
            if (!is_sound) {
              throw Error(Error::Kind::argument, "the samples: expected float32[samples], one channel");
            }
            const auto samples = py::array_t<float, py::array::c_style | py::array::forcecast>::ensure(given);
            const Busy::Use use(self.busy);
            const std::span<const float> all(samples.data(), static_cast<std::size_t>(samples.size()));
            run_interruptible([&](const Cancel* cancel) { self.stream.feed(all, cancel); });
          },
          py::arg("samples"))
      .def("finish",
           [](PySoundStream& self) {
             const Busy::Use use(self.busy);
             run_interruptible([&](const Cancel* cancel) { self.stream.finish(cancel); });
           })
      .def("rows", [](PySoundStream& self) {
        const Busy::Use use(self.busy);
        const std::span<const float> rows = self.stream.rows();
        const auto hidden = static_cast<py::ssize_t>(self.hidden_size);
        py::array_t<float> out({static_cast<py::ssize_t>(rows.size()) / hidden, hidden});
        std::copy(rows.begin(), rows.end(), out.mutable_data());
        return out;
      });
}

}  // namespace gemlet
