#pragma once

#include <filesystem>
#include <string>

#include "kernels/kernels.hpp"

namespace gemlet {

/// Physical cores this process may run on, at most as many as its quota of processor time keeps busy; at least 1. The
/// second thread of a core shares its multipliers and its path to memory, which is all that this work needs, so that it
/// adds nothing. `root` is where /proc and /sys are.
int usable_cores(const std::filesystem::path& root = "/");

/// The least quota of processor time among the control groups (Linux's, version 1 or 2) that this process is in, in
/// cores; infinity where there is none. A container's limit is such a quota.
double processor_quota(const std::filesystem::path& root = "/");

/// How many threads compute: as many as asked for, or usable_cores() for 0. Throws Error(argument) for a number out of
/// range.
int choose_threads(int requested);

/// The kernel table of that name, or the best for an empty one. Throws Error(argument) naming those that run here.
const kernels::Kernels& choose_kernels(const std::string& name);

}  // namespace gemlet
