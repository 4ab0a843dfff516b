#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace gemlet {

/// What the beginning of a file that is no model shows it to be, for a message: "a git-LFS pointer to ...", "an HTML
/// page". Empty if nothing is recognised.
std::string describe_foreign_file(std::span<const std::byte> bytes);

}  // namespace gemlet
