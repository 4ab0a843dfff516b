#pragma once

#include <string>

#include "kernels/kernels.hpp"

namespace gemlet {

/// Physical cores this process may run on; at least 1. The second thread of a core shares its multipliers and its path
/// to memory, which is all that this work needs, so that it adds nothing.
int physical_cores();

/// The kernel table of that name, or the best for an empty one. Throws Error(argument) naming those that run here.
const kernels::Kernels& choose_kernels(const std::string& name);

}  // namespace gemlet
