#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "gemlet/gemlet.hpp"

namespace gemlet {

/// Turns as Python gives them: (role, text or parts, sampled tokens).
using PyPart = std::variant<pybind11::bytes, std::shared_ptr<Medium>>;
using PyTurns =
    std::vector<std::tuple<std::string, std::variant<pybind11::bytes, std::vector<PyPart>>, std::vector<Token>>>;
std::vector<Turn> to_turns(const PyTurns& turns);

/// (begin, count, content)
using PyMedia = std::tuple<std::size_t, std::size_t, std::pair<std::uint64_t, std::uint64_t>>;
std::vector<PyMedia> to_tuples(std::span<const Media> media);

/// Parses "generation_prompt", "complete" or "open_answer"; throws Error(argument) for another name.
PromptEnd parse_prompt_end(std::string_view name);

}  // namespace gemlet
