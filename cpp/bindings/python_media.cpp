#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bindings/busy.hpp"
#include "bindings/python_gil.hpp"
#include "bindings/python_job.hpp"
#include "bindings/python_module.hpp"
#include "encoders/log_mel.hpp"
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

using Samples = py::array_t<float, py::array::c_style | py::array::forcecast>;
using Pixels = py::array_t<std::uint8_t, py::array::c_style>;

Picture view(const Pixels& pixels) {
  if (pixels.ndim() != 3 || pixels.shape(2) != 3) {
    throw Error(Error::Kind::argument, "the picture's pixels: expected uint8[height][width][3]");
  }
  const auto width = static_cast<std::size_t>(pixels.shape(1));
  return {pixels.data(), width, static_cast<std::size_t>(pixels.shape(0)), 3 * width};
}

/// The bindings hand out values: pybind11 has no holder for pointers to const.
std::shared_ptr<Medium> hand_out(std::shared_ptr<const Medium> medium) {
  return std::const_pointer_cast<Medium>(std::move(medium));
}

/// A picture or a sound that is being encoded. Its progress comes in steps of a thousandth.
class Encoding {
 public:
  using Encode = std::function<std::shared_ptr<const Medium>(Job::Body& job)>;

  /// `source`: the array that is encoded.
  Encoding(std::shared_ptr<py::object> source, Encode encode)
      : job_([source = std::move(source), encode = std::move(encode), medium = medium_](Job::Body& job) {
          *medium = encode(job);
        }) {}

  /// The share that is done, or nothing at the end.
  std::optional<double> next() {
    const std::optional<Job::Piece> piece = job_.next();
    if (!piece) return std::nullopt;
    return static_cast<double>(piece->index) / steps;
  }
  void cancel() { job_.cancel(); }
  std::shared_ptr<Medium> finish() {
    while (job_.next()) {
    }
    if (*medium_ == nullptr) throw Error(Error::Kind::argument, "the encoding has failed: there is nothing to finish");
    return hand_out(*medium_);
  }

  static constexpr int steps = 1000;

 private:
  std::shared_ptr<std::shared_ptr<const Medium>> medium_ = std::make_shared<std::shared_ptr<const Medium>>();
  Job job_;
};

std::function<void(float)> show_progress(Job::Body& job) {
  return [&job](float share) { job.emit(static_cast<std::size_t>(share * Encoding::steps), {}); };
}

std::span<const float> view(const Samples& samples) {
  return {samples.data(), static_cast<std::size_t>(samples.size())};
}

/// Samples as the core takes them; copies what is not.
Samples to_samples(const py::array& given) {
  const bool is_sound = given.ndim() == 1 &&
                        (given.dtype().equal(py::dtype::of<float>()) || given.dtype().equal(py::dtype::of<double>()));
  if (!is_sound) throw Error(Error::Kind::argument, "the samples: expected float32[samples], one channel");
  Samples samples = Samples::ensure(given);
  if (!samples) throw py::error_already_set();
  return samples;
}

/// What the encoder makes of a whole sound first: the same frames, of the same padding.
py::array_t<float> log_mel(const Samples& samples, std::size_t bins) {
  if (samples.ndim() != 1 || samples.size() == 0) {
    throw Error(Error::Kind::argument, "the samples: expected float32[samples], one channel, at least one sample");
  }
  const LogMel spectrogram(bins);
  std::vector<float> padded(LogMel::padded_samples(static_cast<std::size_t>(samples.size())));
  std::copy_n(samples.data(), samples.size(), padded.begin());
  const std::size_t frames = LogMel::frames_in(padded.size());
  py::array_t<float> out({frames, bins});
  float* const rows = out.mutable_data();
  const WithoutGil without_gil;
  for (std::size_t i = 0; i < frames; ++i) {
    spectrogram.frame(padded.data() + i * LogMel::hop_samples, rows + i * bins);
  }
  return out;
}

}  // namespace

void bind_media(py::module_& m) {
  m.def(
      "resize",
      [](const Pixels& pixels, std::size_t width, std::size_t height) {
        const Picture picture = view(pixels);
        std::vector<std::uint8_t> resized;
        run_interruptible([&](const Cancel* cancel) { resized = resize(picture, width, height, cancel); });
        Pixels out({static_cast<py::ssize_t>(height), static_cast<py::ssize_t>(width), py::ssize_t{3}});
        std::copy(resized.begin(), resized.end(), out.mutable_data());
        return out;
      },
      py::arg("pixels"), py::arg("width"), py::arg("height"));

  m.def("log_mel", &log_mel, py::arg("samples"), py::arg("bins"));

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
      .def(
          "encode",
          [](std::shared_ptr<Encoders> self, Pixels pixels, int size) {
            const Picture picture = view(pixels);
            return std::make_unique<Encoding>(hold(std::move(pixels)), [=](Job::Body& job) {
              return self->encode(picture, size, job.cancel_flag(), show_progress(job));
            });
          },
          py::arg("pixels"), py::arg("size") = 0)
      .def(
          "encode_sound",
          [](std::shared_ptr<Encoders> self, const py::array& given) {
            Samples samples = to_samples(given);
            const std::span<const float> all = view(samples);
            return std::make_unique<Encoding>(hold(std::move(samples)), [=](Job::Body& job) {
              return self->encode(all, job.cancel_flag(), show_progress(job));
            });
          },
          py::arg("samples"))
      .def_property_readonly("hears", &Encoders::hears)
      .def_property_readonly("hidden_size", &Encoders::hidden_size)
      .def_property_readonly("picture_size", &Encoders::picture_size)
      .def_property_readonly("picture_tokens", &Encoders::picture_tokens)
      .def("sound", [](const std::shared_ptr<Encoders>& self) { return std::make_unique<PySoundStream>(self); });

  py::class_<Encoding>(m, "Encoding")
      .def("next", &Encoding::next)
      .def("cancel", &Encoding::cancel)
      .def("finish", &Encoding::finish);

  py::class_<PySoundStream>(m, "SoundStream")
      .def(
          "feed",
          [](PySoundStream& self, const py::array& given) {
            const Samples samples = to_samples(given);
            const Busy::Use use(self.busy);
            run_interruptible([&](const Cancel* cancel) { self.stream.feed(view(samples), cancel); });
          },
          py::arg("samples"))
      .def("finish",
           [](PySoundStream& self) {
             const Busy::Use use(self.busy);
             run_interruptible([&](const Cancel* cancel) { self.stream.finish(cancel); });
           })
      .def("medium",
           [](PySoundStream& self) {
             const Busy::Use use(self.busy);
             const WithoutGil without_gil;
             return hand_out(self.stream.medium());
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
