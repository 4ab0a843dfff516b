#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/python_engine.hpp"
#include "bindings/python_gil.hpp"
#include "engine/session.hpp"

// Completions: one, several together, and a scheduler's.

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

py::list to_list(std::span<const SampledToken> logprobs) {
  py::list out;
  for (const SampledToken& sampled : logprobs) out.append(to_tuple(sampled));
  return out;
}

/// What a Python function is called with later, from a thread without the GIL.
template <typename... Arguments>
std::function<void(Arguments...)> keep(py::function function) {
  return [held = hold(std::move(function))](Arguments... arguments) { (*held)(std::move(arguments)...); };
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

/// A session that a scheduler has for the time of a request.
struct Lent {
  explicit Lent(std::shared_ptr<PySession> session) : owner(std::move(session)), use(owner->busy) {}
  std::shared_ptr<PySession> owner;
  Busy::Use use;
};

Scheduler::Id submit(Scheduler& self, Prompt prompt, GenerateOptions options,
                     const std::optional<py::function>& on_piece, py::function on_end,
                     const std::shared_ptr<PySession>& session, std::string prefix_scope) {
  Request request{.prompt = std::move(prompt), .options = std::move(options), .prefix_scope = std::move(prefix_scope)};
  if (on_piece) {
    request.on_piece = [show = keep<py::str, py::list, py::list>(*on_piece)](const Piece& piece) {
      const WithGil gil;
      py::list tokens;
      for (const Token token : piece.tokens) tokens.append(token);
      show(to_str(piece.text), std::move(tokens), to_list(piece.logprobs));
      return true;
    };
  }
  auto lent = session == nullptr ? nullptr : std::make_shared<Lent>(session);
  request.on_end = [end = keep<py::object, py::object>(std::move(on_end)),
                    lent = std::move(lent)](Outcome&& outcome) mutable {
    if (lent != nullptr) {
      lent->owner->session = std::move(outcome.session);
      lent.reset();  // before anybody hears of the end, who may want to use it
    }
    const WithGil gil;
    try {
      py::object result = py::none();
      py::object error;
      try {
        error = to_exception(outcome.error);
        result = to_dict(outcome.result);
      } catch (...) {  // no memory, perhaps: whoever waits is told that
        error = to_exception(std::current_exception());
      }
      end(std::move(result), std::move(error));
    } catch (py::error_already_set& error) {
      error.discard_as_unraisable("the end of a request");
    }
  };
  if (session != nullptr) request.session = std::move(session->session);
  try {
    const WithoutGil without_gil;
    return self.submit(std::move(request));
  } catch (...) {
    if (session != nullptr) session->session = std::move(*request.session);
    throw;
  }
}

}  // namespace

Generation::Generation(std::shared_ptr<PySession> session, Compute compute)
    : session_(std::move(session)),
      job_([compute = std::move(compute), results = results_](Job::Body& job) { *results = compute(job); }) {}

std::unique_ptr<Generation> Generation::one(std::shared_ptr<PySession> session, Prompt prompt,
                                            GenerateOptions options) {
  auto compute = [session, prompt = std::move(prompt), options = std::move(options)](Job::Body& job) {
    const Busy::Use use(session->busy);
    return Results{generate(
        session->session, prompt, options, [&](std::string_view text) { return job.emit(0, text); },
        job.cancel_flag())};
  };
  return std::unique_ptr<Generation>(new Generation(std::move(session), std::move(compute)));
}

std::unique_ptr<Generation> Generation::batch(const PyEngine& engine, std::vector<std::vector<Token>> prompts,
                                              std::vector<GenerateOptions> options) {
  auto compute = [engine = engine.engine, prompts = std::move(prompts), options = std::move(options)](Job::Body& job) {
    return generate_batch(
        engine, prompts, options, [&](std::size_t index, std::string_view text) { return job.emit(index, text); },
        job.cancel_flag());
  };
  return std::unique_ptr<Generation>(new Generation(nullptr, std::move(compute)));
}

std::optional<std::pair<std::size_t, py::str>> Generation::next() {
  recover_session();
  std::optional<Job::Piece> piece = job_.next();
  if (!piece) return std::nullopt;
  return std::pair(piece->index, to_str(piece->text));
}

void Generation::cancel() {
  recover_session();
  job_.cancel();
}

void Generation::close() {
  recover_session();
  job_.close();
}

py::list Generation::results() const {
  py::list out;
  if (job_.done()) {
    for (const GenerateResult& result : *results_) out.append(to_dict(result));
  }
  return out;
}

void Generation::recover_session() {
  if (!job_.lost() || session_ == nullptr || !session_->busy.take_lost_use()) return;
  Session& session = session_->session;
  Session fresh(Session::Impl::of(session).engine, session_->context);
  new Session(std::move(session));  // never ended: a thread of the parent may have been changing it
  session = std::move(fresh);
  session_->busy.end();
}

py::dict to_dict(const GenerateResult& result) {
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
  out["logprobs"] = to_list(result.logprobs);
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
      .def("submit", &submit, py::arg("prompt"), py::arg("options"), py::arg("on_piece"), py::arg("on_end"),
           py::arg("session"), py::arg("prefix_scope"))
      .def("cancel", &Scheduler::cancel, py::arg("id"))
      .def("load",
           [](const Scheduler& self) {
             const SchedulerLoad load = self.load();
             return std::pair(load.active, load.waiting);
           })
      .def("run", &Scheduler::run, py::call_guard<WithoutGil>())
      .def("stop", &Scheduler::stop);
}

}  // namespace gemlet
