#pragma once

#include <string>

#include "gemlet/gemlet.hpp"

namespace gemlet {

/// A number or a truth value as in JSON, a string as it is, a list as a JSON array.
std::string hyperparameter_text(const Hyperparameter& value);

}  // namespace gemlet
