// The private Python module gemlet._core: the C++ interface as it is, with bytes for text and lists for tokens. The
// package on top gives it its shape. python/gemlet/_core.pyi mirrors these files.
#include <exception>
#include <string_view>
#include <utility>

#include "bindings/python_gil.hpp"
#include "bindings/python_job.hpp"
#include "bindings/python_module.hpp"

namespace py = pybind11;

namespace gemlet {
namespace {

const char* python_error(Error::Kind kind) {
  switch (kind) {
    case Error::Kind::io:
      return "FileError";
    case Error::Kind::format:
      return "FormatError";
    case Error::Kind::unsupported:
      return "UnsupportedError";
    case Error::Kind::argument:
      return "ArgumentError";
    case Error::Kind::context:
      return "ContextError";
    case Error::Kind::cancelled:
      return "CancelledError";
    case Error::Kind::memory:
      return "OutOfMemoryError";
    case Error::Kind::overload:
      return "OverloadError";
  }
  return "GemletError";
}

}  // namespace

void translate_error(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const Error& error) {
    const py::object type = py::module_::import("gemlet.errors").attr(python_error(error.kind()));
    py::set_error(type, py::reinterpret_steal<py::str>(PyUnicode_DecodeUTF8(
                            error.what(), static_cast<Py_ssize_t>(std::string_view(error.what()).size()), "replace")));
  }
}

std::shared_ptr<py::object> hold(py::object object) {
  return {new py::object(std::move(object)), [](py::object* held) {
            if (Py_IsInitialized() == 0) {  // static objects outlive the interpreter
              held->release();
              delete held;
              return;
            }
            const WithGil gil;
            delete held;
          }};
}

py::str to_str(std::string_view text) {
  PyObject* decoded = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
  if (decoded == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(decoded);
}

}  // namespace gemlet

PYBIND11_MODULE(_core, m) {
  m.doc() = "gemlet's C++ core; use the gemlet package.";
  py::register_local_exception_translator(gemlet::translate_error);
  gemlet::bind_slice(m);
  gemlet::bind_engine(m);
  gemlet::bind_session(m);
  gemlet::bind_tokenizer(m);
  gemlet::bind_sampler(m);
  gemlet::bind_generation(m);
  gemlet::bind_scheduler(m);
  gemlet::bind_runner(m);
  gemlet::bind_quantize(m);
  gemlet::bind_files(m);
  gemlet::bind_bench(m);
  gemlet::bind_prompt(m);
  gemlet::bind_media(m);
  gemlet::bind_gguf(m);
  py::module_::import("atexit").attr("register")(py::cpp_function(&gemlet::Job::end_all));
}
