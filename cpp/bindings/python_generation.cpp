#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/python_engine.hpp"

// Answers: one, several together, and a scheduler's.

namespace py = pybind11;

namespace gemlet {
namespace {

const char* name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::context:
      return "context";
    case FinishReason::cancelled:
      return "cancelled";
  }
  return "";
}

const char* name_of(Speculate speculate) {
  switch (speculate) {
    case Speculate::none:
      return "none";
    case Speculate::lookup:
      return "lookup";
    case Speculate::slice:
      return "slice";
  }
  return "";
}

Speculate parse_speculate(const std::string& name) {
  for (const Speculate each : {Speculate::none, Speculate::lookup, Speculate::slice}) {
    if (name == name_of(each)) return each;
  }
  throw Error(Error::Kind::argument, "speculate: expected \"lookup\", \"slice\" or \"none\", found \"" + name + "\"");
}

/// What a Python function is called with later, from a thread without the GIL.
template <typename... Arguments>
std::function<void(Arguments...)> keep(py::function function) {
  const auto drop = [](py::function* held) {
    const py::gil_scoped_acquire acquire;
    delete held;
  };
  return [held = std::shared_ptr<py::function>(new py::function(std::move(function)), drop)](Arguments... arguments) {
    (*held)(std::move(arguments)...);
  };
}

/// With the GIL held: the Python exception for what a request failed with, or None.
py::object to_exception(const std::exception_ptr& failure) {
  if (failure == nullptr) return py::none();
  try {
    std::rethrow_exception(failure);
  } catch (py::error_already_set& error) {  // from a callback
    return error.value();
  } catch (const Error&) {
    translate_error(failure);
    return py::error_already_set().value();
  } catch (const std::exception& error) {
    return py::module_::import("builtins").attr("RuntimeError")(error.what());
  }
}

Scheduler::Id submit(Scheduler& self, std::vector<Token> prompt, GenerateOptions options,
                     const std::optional<py::function>& on_text, py::function on_end,
                     const std::shared_ptr<PySession>& session) {
  Request request{.prompt = std::move(prompt), .options = std::move(options)};
  if (session != nullptr) {
    const Busy::Use use(session->busy);
    request.session = session->session.fork();
  }
  if (on_text) {
    request.on_text = [show = keep<py::str>(*on_text)](std::string_view text) {
      const py::gil_scoped_acquire acquire;
      show(to_str(text));
      return true;
    };
  }
  request.on_end = [end = keep<py::dict, py::object>(std::move(on_end))](Outcome&& outcome) {
    const py::gil_scoped_acquire acquire;
    try {
      end(to_dict(outcome.result), to_exception(outcome.error));
    } catch (py::error_already_set& error) {
      error.discard_as_unraisable("the end of a request");
    }
  };
  return self.submit(std::move(request));
}

}  // namespace

py::dict to_dict(const GenerateResult& result) {
  py::list logprobs;
  for (const SampledToken& sampled : result.logprobs) logprobs.append(to_tuple(sampled));
  py::dict stats;
  stats["prompt_tokens"] = result.stats.prompt_tokens;
  stats["reused_tokens"] = result.stats.reused_tokens;
  stats["generated_tokens"] = result.stats.generated_tokens;
  stats["drafted_tokens"] = result.stats.drafted_tokens;
  stats["accepted_tokens"] = result.stats.accepted_tokens;
  stats["prefill_seconds"] = result.stats.prefill_seconds;
  stats["decode_seconds"] = result.stats.decode_seconds;
  stats["first_token_seconds"] = result.stats.first_token_seconds;
  py::dict out;
  out["text"] = to_str(result.text);
  out["tokens"] = result.tokens;
  out["logprobs"] = std::move(logprobs);
  out["finish_reason"] = name_of(result.finish_reason);
  out["stats"] = std::move(stats);
  return out;
}

void bind_generation(py::module_& m) {
  py::class_<GenerateOptions>(m, "GenerateOptions")
      .def(py::init<>())
      .def_readwrite("max_tokens", &GenerateOptions::max_tokens)
      .def_readwrite("stop", &GenerateOptions::stop)
      .def_readwrite("draft", &GenerateOptions::draft)
      .def_readwrite("draft_tokens", &GenerateOptions::draft_tokens)
      .def_property(
          "speculate", [](const GenerateOptions& self) { return name_of(self.speculate); },
          [](GenerateOptions& self, const std::string& name) { self.speculate = parse_speculate(name); })
      .def_readonly("sampling", &GenerateOptions::sampling);
  py::class_<Generation>(m, "Generation")
      .def("next", &Generation::next)
      .def("cancel", &Generation::cancel)
      .def("close", &Generation::close)
      .def("results", &Generation::results);
}

void bind_scheduler(py::module_& m) {
  py::class_<Scheduler>(m, "Scheduler")
      .def("submit", &submit, py::arg("prompt"), py::arg("options"), py::arg("on_text"), py::arg("on_end"),
           py::arg("session") = nullptr)
      .def("cancel", &Scheduler::cancel, py::arg("id"))
      .def("run", &Scheduler::run, py::call_guard<py::gil_scoped_release>())
      .def("stop", &Scheduler::stop);
}

}  // namespace gemlet
