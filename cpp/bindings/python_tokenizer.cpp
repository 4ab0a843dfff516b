#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "bindings/python_gil.hpp"
#include "bindings/python_module.hpp"
#include "bindings/python_prompt.hpp"
#include "format/gguf.hpp"
#include "text/tokenizer.hpp"
#include "text/turns.hpp"

namespace py = pybind11;

namespace gemlet {

const char* name_of(TokenKind kind) {
  switch (kind) {
    case TokenKind::normal:
      return "normal";
    case TokenKind::unknown:
      return "unknown";
    case TokenKind::control:
      return "control";
    case TokenKind::user_defined:
      return "user_defined";
    case TokenKind::unused:
      return "unused";
    case TokenKind::byte:
      return "byte";
  }
  return "";
}

void bind_tokenizer(py::module_& m) {
  py::class_<Tokenizer>(m, "Tokenizer", "The tokenizer of a GGUF file; its weights are not read.")
      .def(py::init([](const std::filesystem::path& path) {
             const WithoutGil without_gil;
             const GgufFile file(path);
             auto tokenizer = read_intact(file, [&] { return std::make_unique<Tokenizer>(file); });
             file.check_unchanged();
             return tokenizer;
           }),
           py::arg("path"))
      .def(
          "encode",
          [](const Tokenizer& self, const py::bytes& text, bool bos, bool special) {
            const std::string_view view(text);
            const WithoutGil without_gil;
            return self.encode(view, bos, special);
          },
          py::arg("text"), py::arg("bos") = false, py::arg("special") = true,
          "special: text like \"<start_of_turn>\" becomes its control token.")
      .def(
          "decode",
          [](const Tokenizer& self, const std::vector<Token>& ids, bool special) {
            return py::bytes(self.decode(ids, special));
          },
          py::arg("ids"), py::arg("special") = false, "The bytes that the tokens stand for.")
      .def(
          "piece", [](const Tokenizer& self, Token token) { return py::bytes(std::string(self.piece(token))); },
          py::arg("token"), "The piece as the file stores it, in bytes.")
      .def(
          "kind", [](const Tokenizer& self, Token token) { return name_of(self.kind(token)); }, py::arg("token"),
          "normal, unknown, control, user_defined, unused or byte.")
      .def(
          "find", [](const Tokenizer& self, const py::bytes& piece) { return self.find(std::string_view(piece)); },
          py::arg("piece"), "The token of a piece, or None.")
      .def(
          "prompt",
          [](const Tokenizer& self, const PyTurns& turns, const std::string& end) {
            const std::vector<Turn> conversation = to_turns(turns);
            const PromptOptions options{.end = parse_prompt_end(end)};
            const WithoutGil without_gil;
            return prompt_of_turns(self, conversation, options);
          },
          py::arg("turns"), py::arg("end") = "generation_prompt",
          "The prompt of a conversation in the vocabulary's own turn format; each turn is (role, text or parts, "
          "sampled tokens).")
      .def("is_end", &Tokenizer::is_end, py::arg("token"), "Whether the token ends a turn or the text.")
      .def("special_tokens", [](const Tokenizer& self) { return special_tokens(self, self.vocabulary()); })
      .def_property_readonly("bos", &Tokenizer::bos)
      .def_property_readonly("vocabulary", &Tokenizer::vocabulary);
}

}  // namespace gemlet
