// The private Python module gemlet._core: the C++ interface as it is, with bytes for text and lists for tokens. The
// package on top gives it its shape. python/gemlet/_core.pyi mirrors these files.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bindings/python_job.hpp"
#include "bindings/python_module.hpp"
#include "gemlet/gemlet.hpp"
#include "model/slice.hpp"

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
  }
  return "GemletError";
}

void translate_error(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const Error& error) {
    const py::object type = py::module_::import("gemlet.errors").attr(python_error(error.kind()));
    py::set_error(type, py::reinterpret_steal<py::str>(PyUnicode_DecodeUTF8(
                            error.what(), static_cast<Py_ssize_t>(std::string_view(error.what()).size()), "replace")));
  }
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
  py::dict out;
  out["architecture"] = to_str(info.architecture);
  out["name"] = to_str(info.name);
  out["chat_template"] = to_str(info.chat_template);
  out["vocabulary"] = info.vocabulary;
  out["hidden_size"] = info.hidden_size;
  out["layers"] = info.layers;
  out["file_layers"] = info.file_layers;
  out["trained_context"] = info.trained_context;
  out["heads"] = info.heads;
  out["kv_heads"] = info.kv_heads;
  out["head_dim"] = info.head_dim;
  out["sliding_window"] = info.sliding_window;
  out["kv_shared_layers"] = info.kv_shared_layers;
  out["hidden_size_per_layer_input"] = info.hidden_size_per_layer_input;
  out["layer_index"] = py::tuple(py::cast(info.layer_index));
  out["intermediate_size"] = py::tuple(py::cast(info.intermediate_size));
  out["sliding"] = py::tuple(py::cast(info.sliding));
  out["activation_sparsity"] = py::tuple(py::cast(info.activation_sparsity));
  out["kernels"] = info.kernels;
  out["threads"] = info.threads;
  out["context"] = info.context;
  out["file_bytes"] = info.file_bytes;
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

/// The bindings hand out values: pybind11 has no holder for pointers to const.
struct PyEngine {
  std::shared_ptr<const Engine> engine;
  const Engine* operator->() const { return engine.get(); }
};

/// A Session that refuses a second call while one runs, where the C++ interface leaves that to its caller.
struct PySession {
  explicit PySession(Session&& session_) : session(std::move(session_)) {}
  Session session;
  std::atomic_flag busy = ATOMIC_FLAG_INIT;
};

class Use {
 public:
  explicit Use(PySession& session) : session_(session) {
    if (session_.busy.test_and_set(std::memory_order_acquire)) {
      throw Error(Error::Kind::argument,
                  "the session is busy: another call on it has not finished, or it was given twice");
    }
  }
  ~Use() { session_.busy.clear(std::memory_order_release); }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

 private:
  PySession& session_;
};

py::array_t<float> copy_logits(std::span<const float> logits, std::vector<py::ssize_t> shape) {
  py::array_t<float> out(std::move(shape));
  std::copy(logits.begin(), logits.end(), out.mutable_data());
  return out;
}

py::array_t<float> prefill(PySession& self, const std::vector<Token>& tokens, bool all) {
  const Use use(self);
  std::span<const float> logits;
  run_interruptible(
      [&](const Cancel* cancel) { logits = self.session.prefill(tokens, all ? Logits::all : Logits::last, cancel); });
  const auto vocabulary = static_cast<py::ssize_t>(self.session.engine().info().vocabulary);
  if (!all) return copy_logits(logits, {vocabulary});
  return copy_logits(logits, {static_cast<py::ssize_t>(tokens.size()), vocabulary});
}

/// For each layer float[altup][tokens][hidden], of all tokens, whatever the chunks they were computed in.
py::list prefill_layers(PySession& self, const std::vector<Token>& tokens) {
  const Use use(self);
  const ModelInfo& info = self.session.engine().info();
  const auto hidden = static_cast<std::size_t>(info.hidden_size);
  std::vector<std::vector<std::vector<float>>> chunks(static_cast<std::size_t>(info.layers));
  self.session.on_layer([&](std::size_t layer, std::span<const float> streams) {
    chunks[layer].emplace_back(streams.begin(), streams.end());
  });
  try {
    run_interruptible([&](const Cancel* cancel) { self.session.prefill(tokens, Logits::all, cancel); });
  } catch (...) {
    self.session.on_layer({});
    throw;
  }
  self.session.on_layer({});
  py::list out;
  for (const auto& layer : chunks) {
    std::size_t floats = 0;
    for (const auto& chunk : layer) floats += chunk.size();
    const std::size_t altup = floats / (tokens.size() * hidden);
    py::array_t<float> streams({altup, tokens.size(), hidden});
    float* row = streams.mutable_data();
    for (std::size_t i = 0; i < altup; ++i) {
      for (const auto& chunk : layer) {
        const std::size_t size = chunk.size() / altup;
        row = std::copy_n(chunk.data() + i * size, size, row);
      }
    }
    out.append(std::move(streams));
  }
  return out;
}

void step(const std::vector<std::shared_ptr<PySession>>& sessions, const std::vector<Token>& tokens) {
  std::vector<std::unique_ptr<Use>> uses;
  std::vector<Session*> raw;
  for (const auto& session : sessions) {
    uses.push_back(std::make_unique<Use>(*session));
    raw.push_back(&session->session);
  }
  run_interruptible([&](const Cancel* cancel) { Session::step(raw, tokens, cancel); });
}

/// One or several answers on their way.
class Generation {
 public:
  static std::unique_ptr<Generation> one(std::shared_ptr<PySession> session, std::vector<Token> prompt,
                                         GenerateOptions options) {
    return std::unique_ptr<Generation>(
        new Generation([session = std::move(session), prompt = std::move(prompt), options = std::move(options)](
                           Job& job, std::vector<GenerateResult>& results) {
          const Use use(*session);
          results.push_back(generate(
              session->session, prompt, options, [&](std::string_view text) { return job.emit(0, text); },
              job.cancel_flag()));
        }));
  }

  static std::unique_ptr<Generation> batch(const PyEngine& engine, std::vector<std::vector<Token>> prompts,
                                           std::vector<GenerateOptions> options) {
    return std::unique_ptr<Generation>(
        new Generation([engine = engine.engine, prompts = std::move(prompts), options = std::move(options)](
                           Job& job, std::vector<GenerateResult>& results) {
          results = generate_batch(
              engine, prompts, options, [&](std::size_t index, std::string_view text) { return job.emit(index, text); },
              job.cancel_flag());
        }));
  }

  std::optional<std::pair<std::size_t, py::str>> next() {
    std::optional<Job::Piece> piece = job_.next();
    if (!piece) return std::nullopt;
    return std::pair(piece->index, to_str(piece->text));
  }

  void cancel() { job_.cancel(); }
  void close() { job_.close(); }

  /// Empty until the generation has ended, and after one that failed.
  py::list results() const {
    py::list out;
    if (job_.done()) {
      for (const GenerateResult& result : results_) out.append(to_dict(result));
    }
    return out;
  }

 private:
  template <typename Body>
  explicit Generation(Body body) : job_([this, body = std::move(body)](Job& job) { body(job, results_); }) {}

  std::vector<GenerateResult> results_;
  Job job_;  // last: its destructor waits for the body, which uses the others
};

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
            for (const KeptLayer& layer : apply_slice(self, layers)) kept.emplace_back(layer.position, layer.width);
            return kept;
          },
          py::arg("widths"), py::arg("kv_layers"), py::arg("block"));
}

void bind_engine(py::module_& m) {
  py::class_<PyEngine>(m, "Engine")
      .def_static(
          "load",
          [](const std::filesystem::path& path, int threads, int context, int chunk, const std::string& cache,
             const Slice& slice, const std::string& isa) {
            const EngineOptions options{threads, context, chunk, parse_cache_type(cache), slice, isa};
            py::gil_scoped_release release;
            return PyEngine{Engine::load(path, options)};
          },
          py::arg("path"), py::kw_only(), py::arg("threads") = EngineOptions().threads,
          py::arg("context") = EngineOptions().context, py::arg("chunk") = EngineOptions().chunk,
          py::arg("cache") = "f16", py::arg("slice") = Slice(), py::arg("isa") = "")
      .def("info", [](const PyEngine& self) { return to_dict(self->info()); })
      .def("work", [](const PyEngine& self) { return to_dict(self->work()); })
      .def(
          "tokenize",
          [](const PyEngine& self, const py::bytes& text, bool bos, bool special) {
            const std::string_view view(text);
            py::gil_scoped_release release;
            return self->tokenize(view, bos, special);
          },
          py::arg("text"), py::kw_only(), py::arg("bos") = false, py::arg("special") = true)
      .def(
          "detokenize",
          [](const PyEngine& self, const std::vector<Token>& tokens, bool special) {
            return py::bytes(self->detokenize(tokens, special));
          },
          py::arg("tokens"), py::kw_only(), py::arg("special") = false)
      .def("piece", [](const PyEngine& self, Token token) { return py::bytes(self->piece(token)); })
      .def("kind", [](const PyEngine& self, Token token) { return name_of(self->kind(token)); })
      .def("find_token",
           [](const PyEngine& self, const py::bytes& piece) { return self->find_token(std::string_view(piece)); })
      .def("is_end", [](const PyEngine& self, Token token) { return self->is_end(token); })
      .def_property_readonly("bos", [](const PyEngine& self) { return self->bos(); })
      .def(
          "session",
          [](const PyEngine& self, int context) { return std::make_shared<PySession>(Session(self.engine, context)); },
          py::arg("context") = 0)
      .def(
          "restore",
          [](const PyEngine& self, const std::filesystem::path& path, int context) {
            py::gil_scoped_release release;
            return std::make_shared<PySession>(Session::restore(self.engine, path, context));
          },
          py::arg("path"), py::arg("context") = 0)
      .def("generate_batch", &Generation::batch, py::arg("prompts"), py::arg("options"))
      .def(
          "scheduler",
          [](const PyEngine& self, int sequences, int prompt_rows) {
            return std::make_unique<Scheduler>(self.engine, SchedulerOptions{sequences, prompt_rows});
          },
          py::kw_only(), py::arg("sequences") = SchedulerOptions().sequences,
          py::arg("prompt_rows") = SchedulerOptions().prompt_rows)
      .def("special_tokens",
           [](const PyEngine& self) { return special_tokens(*self.engine, self->info().vocabulary); });
}

void bind_session(py::module_& m) {
  py::class_<PySession, std::shared_ptr<PySession>>(m, "Session")
      .def("prefill", &prefill, py::arg("tokens"), py::arg("all") = false)
      .def("prefill_layers", &prefill_layers, py::arg("tokens"))
      .def("logits",
           [](PySession& self) {
             const Use use(self);
             const std::span<const float> logits = self.session.logits();
             return copy_logits(logits, {static_cast<py::ssize_t>(logits.size())});
           })
      .def(
          "rewind",
          [](PySession& self, int position) {
            const Use use(self);
            self.session.rewind(position);
          },
          py::arg("position"))
      .def(
          "advance_to",
          [](PySession& self, const std::vector<Token>& tokens) {
            const Use use(self);
            int reused = 0;
            run_interruptible([&](const Cancel* cancel) { reused = self.session.advance_to(tokens, cancel); });
            return reused;
          },
          py::arg("tokens"))
      .def("fork",
           [](PySession& self) {
             py::gil_scoped_release release;
             const Use use(self);
             return std::make_shared<PySession>(self.session.fork());
           })
      .def(
          "save",
          [](PySession& self, const std::filesystem::path& path) {
            py::gil_scoped_release release;
            const Use use(self);
            self.session.save(path);
          },
          py::arg("path"))
      .def_static("step_all", &step, py::arg("sessions"), py::arg("tokens"))
      .def("generate", &Generation::one, py::arg("prompt"), py::arg("options"))
      .def_property_readonly("context", [](const PySession& self) { return self.session.context(); })
      .def_property_readonly("position",
                             [](PySession& self) {
                               const Use use(self);
                               return self.session.position();
                             })
      .def_property_readonly("tokens", [](PySession& self) {
        const Use use(self);
        const std::span<const Token> tokens = self.session.tokens();
        return std::vector<Token>(tokens.begin(), tokens.end());
      });
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
    const Use use(*session);
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

void bind_scheduler(py::module_& m) {
  py::class_<Scheduler>(m, "Scheduler")
      .def("submit", &submit, py::arg("prompt"), py::arg("options"), py::arg("on_text"), py::arg("on_end"),
           py::arg("session") = nullptr)
      .def("cancel", &Scheduler::cancel, py::arg("id"))
      .def("run", &Scheduler::run, py::call_guard<py::gil_scoped_release>())
      .def("stop", &Scheduler::stop);
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

}  // namespace
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
  gemlet::bind_answer(m);
  gemlet::bind_scheduler(m);
  gemlet::bind_quantize(m);
  gemlet::bind_bench(m);
  gemlet::bind_gguf(m);
}
