#pragma once

#include <pybind11/pybind11.h>

#include "gemlet/gemlet.hpp"

// What the files of the Python module share.
namespace gemlet {

void bind_tokenizer(pybind11::module_& m);
void bind_sampler(pybind11::module_& m);
void bind_quantize(pybind11::module_& m);
void bind_bench(pybind11::module_& m);
void bind_gguf(pybind11::module_& m);

const char* name_of(TokenKind kind);

/// (token, logprob, [(token, logprob), ...])
pybind11::tuple to_tuple(const SampledToken& sampled);

}  // namespace gemlet
