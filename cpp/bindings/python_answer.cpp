#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/python_module.hpp"
#include "engine/answer.hpp"

// Answers whose logits come from elsewhere: another runtime computes, the core samples, stops and makes text.

namespace gemlet {
namespace {

namespace py = pybind11;

FinishReason parse_finish_reason(const std::string& name) {
  for (const FinishReason each :
       {FinishReason::stop, FinishReason::length, FinishReason::context, FinishReason::cancelled}) {
    if (name == name_of(each)) return each;
  }
  throw Error(Error::Kind::argument,
              "reason: expected \"stop\", \"length\", \"context\" or \"cancelled\", found \"" + name + "\"");
}

class PyAnswer {
 public:
  PyAnswer(const Tokenizer& tokenizer, std::size_t context, const std::vector<Token>& prompt, GenerateOptions options)
      : options_(std::move(options)), answer_(tokenizer, context, prompt, options_, [this](std::string_view text) {
          text_ += text;
          return true;
        }) {}

  bool running() const { return answer_.running(); }

  Token last_token() const {
    if (answer_.tokens_left() == static_cast<std::size_t>(options_.max_tokens)) {
      throw Error(Error::Kind::argument, "there is no last token: none was sampled");
    }
    return answer_.last_token();
  }

  py::str sample(const py::array_t<float, py::array::c_style | py::array::forcecast>& logits) {
    require_running();
    answer_.sample({logits.data(), static_cast<std::size_t>(logits.size())});
    return take_text();
  }

  py::str finish(const std::string& reason) {
    require_running();
    answer_.finish(parse_finish_reason(reason));
    return take_text();
  }

  py::dict result(int reused_tokens, double prefill_seconds, double decode_seconds, double first_token_seconds) {
    if (running()) throw Error(Error::Kind::argument, "the answer has not ended");
    if (!result_) {
      GenerateStats& stats = answer_.stats();
      stats.reused_tokens = reused_tokens;
      stats.prefill_seconds = prefill_seconds;
      stats.decode_seconds = decode_seconds;
      stats.first_token_seconds = first_token_seconds;
      result_ = answer_.take_result();
    }
    return to_dict(*result_);
  }

 private:
  void require_running() const {
    if (!running()) throw Error(Error::Kind::argument, "the answer has ended");
  }

  py::str take_text() { return to_str(std::exchange(text_, {})); }

  GenerateOptions options_;
  std::string text_;  // final, and not yet handed out
  Answer answer_;
  std::optional<GenerateResult> result_;
};

}  // namespace

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

py::str to_str(std::string_view text) {
  PyObject* decoded = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
  if (decoded == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(decoded);
}

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

void bind_answer(py::module_& m) {
  py::class_<PyAnswer>(m, "Answer", "One answer while it grows, from logits that the caller computes.")
      .def(py::init([](const Tokenizer& tokenizer, std::size_t context, const std::vector<Token>& prompt,
                       GenerateOptions options) {
             return std::make_unique<PyAnswer>(tokenizer, context, prompt, std::move(options));
           }),
           py::arg("tokenizer"), py::arg("context"), py::arg("prompt"), py::arg("options"), py::keep_alive<1, 2>())
      .def_property_readonly("running", &PyAnswer::running)
      .def_property_readonly("last_token", &PyAnswer::last_token)
      .def("sample", &PyAnswer::sample, py::arg("logits"))
      .def("finish", &PyAnswer::finish, py::arg("reason"))
      .def("result", &PyAnswer::result, py::kw_only(), py::arg("reused_tokens"), py::arg("prefill_seconds"),
           py::arg("decode_seconds"), py::arg("first_token_seconds"));
}

}  // namespace gemlet
