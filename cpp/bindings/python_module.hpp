#pragma once

#include <pybind11/pybind11.h>

#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "gemlet/gemlet.hpp"

// What the files of the Python module share.
namespace gemlet {

void bind_tokenizer(pybind11::module_& m);
void bind_sampler(pybind11::module_& m);
void bind_quantize(pybind11::module_& m);
void bind_files(pybind11::module_& m);
void bind_bench(pybind11::module_& m);
void bind_media(pybind11::module_& m);
void bind_prompt(pybind11::module_& m);
void bind_gguf(pybind11::module_& m);
void bind_slice(pybind11::module_& m);
void bind_engine(pybind11::module_& m);
void bind_session(pybind11::module_& m);
void bind_generation(pybind11::module_& m);
void bind_scheduler(pybind11::module_& m);
void bind_runner(pybind11::module_& m);

const char* name_of(TokenKind kind);

/// The control tokens of an engine or a tokenizer, and the one for what is unknown.
template <typename Vocabulary>
std::vector<Token> special_tokens(const Vocabulary& of, int size) {
  std::vector<Token> out;
  for (Token token = 0; token < size; ++token) {
    const TokenKind kind = of.kind(token);
    if (kind == TokenKind::control || kind == TokenKind::unknown) out.push_back(token);
  }
  return out;
}

/// Sets the Python exception of a core's Error.
void translate_error(std::exception_ptr pointer);

/// A Python object that whoever holds it last releases: with the GIL held, or not at all once Python has ended.
std::shared_ptr<pybind11::object> hold(pybind11::object object);

/// Malformed UTF-8 becomes U+FFFD.
pybind11::str to_str(std::string_view text);

/// As _Result in _core.pyi.
pybind11::dict to_dict(const GenerateResult& result);

/// (token, logprob, [(token, logprob), ...])
pybind11::tuple to_tuple(const SampledToken& sampled);

}  // namespace gemlet
