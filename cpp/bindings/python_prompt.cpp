#include "bindings/python_prompt.hpp"

#include <pybind11/numpy.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "bindings/python_module.hpp"

namespace py = pybind11;

namespace gemlet {
namespace {

using Rows = py::array_t<float, py::array::c_style | py::array::forcecast>;

Media to_media(std::size_t begin, const Rows& rows) {
  if (rows.ndim() != 2 || rows.shape(0) == 0) {
    throw Error(Error::Kind::argument, "a medium's rows: expected float32[rows][hidden size]");
  }
  const std::span<const float> all(rows.data(), static_cast<std::size_t>(rows.size()));
  return {.begin = begin,
          .count = static_cast<std::size_t>(rows.shape(0)),
          .content = content_hash(std::as_bytes(all)),
          .rows = std::make_shared<const std::vector<float>>(all.begin(), all.end())};
}

py::array_t<float> rows_of(const Medium& medium) {
  const std::size_t hidden = medium.rows->size() / medium.count;
  py::array_t<float> out({medium.count, hidden});
  std::copy(medium.rows->begin(), medium.rows->end(), out.mutable_data());
  return out;
}

/// What an encoder outside of the core has made.
std::shared_ptr<Medium> make_medium(std::string begin, const Rows& rows, std::string end) {
  Media media = to_media(0, rows);
  return std::make_shared<Medium>(Medium{.begin = std::move(begin),
                                         .end = std::move(end),
                                         .count = media.count,
                                         .content = media.content,
                                         .rows = std::move(media.rows)});
}

TurnPart to_part(const PyPart& part) {
  if (const auto* medium = std::get_if<std::shared_ptr<Medium>>(&part)) return {.medium = *medium};
  return {.text = std::string(std::get<py::bytes>(part))};
}

}  // namespace

std::vector<PyMedia> to_tuples(std::span<const Media> media) {
  std::vector<PyMedia> out;
  for (const Media& each : media) out.emplace_back(each.begin, each.count, std::pair(each.content[0], each.content[1]));
  return out;
}

PromptEnd parse_prompt_end(std::string_view name) {
  if (name == "generation_prompt") return PromptEnd::generation_prompt;
  if (name == "complete") return PromptEnd::complete;
  if (name == "open_answer") return PromptEnd::open_answer;
  throw Error(Error::Kind::argument, "end: expected \"generation_prompt\", \"complete\" or \"open_answer\", found \"" +
                                         std::string(name) + "\"");
}

std::vector<Turn> to_turns(const PyTurns& turns) {
  std::vector<Turn> out;
  out.reserve(turns.size());
  for (const auto& [role, content, tokens] : turns) {
    Turn turn{.role = parse_role(role), .text = {}, .tokens = tokens};
    if (const auto* text = std::get_if<py::bytes>(&content)) {
      turn.text = std::string(*text);
    } else {
      for (const PyPart& part : std::get<std::vector<PyPart>>(content)) turn.parts.push_back(to_part(part));
    }
    out.push_back(std::move(turn));
  }
  return out;
}

void bind_prompt(py::module_& m) {
  py::class_<Medium, std::shared_ptr<Medium>>(m, "Medium")
      .def(py::init(&make_medium), py::arg("begin"), py::arg("rows"), py::arg("end") = "")
      .def_readonly("begin", &Medium::begin)
      .def_readonly("end", &Medium::end)
      .def_readonly("count", &Medium::count)
      .def_property_readonly("content", [](const Medium& self) { return std::pair(self.content[0], self.content[1]); })
      .def("rows", &rows_of);

  py::class_<Prompt>(m, "Prompt")
      .def(py::init<std::vector<Token>>(), py::arg("tokens"))
      .def(py::init([](std::vector<Token> tokens, const std::vector<std::pair<std::size_t, Rows>>& media) {
             Prompt prompt(std::move(tokens));
             for (const auto& [begin, rows] : media) prompt.media.push_back(to_media(begin, rows));
             return prompt;
           }),
           py::arg("tokens"), py::arg("media"))
      .def("__eq__",
           [](const Prompt& self, const Prompt& other) {
             return self.tokens == other.tokens &&
                    std::equal(self.media.begin(), self.media.end(), other.media.begin(), other.media.end(),
                               [](const Media& a, const Media& b) { return a.same(b); });
           })
      .def("__len__", [](const Prompt& self) { return self.tokens.size(); })
      .def("__add__",
           [](const Prompt& self, const Prompt& other) {
             Prompt sum = self;
             for (Media media : other.media) {
               media.begin += self.tokens.size();
               sum.media.push_back(std::move(media));
             }
             sum.tokens.insert(sum.tokens.end(), other.tokens.begin(), other.tokens.end());
             return sum;
           })
      .def_readonly("tokens", &Prompt::tokens)
      .def_property_readonly("media", [](const Prompt& self) { return to_tuples(self.media); });
  py::implicitly_convertible<std::vector<Token>, Prompt>();
}

}  // namespace gemlet
