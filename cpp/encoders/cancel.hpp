#pragma once

#include <string>

#include "gemlet/gemlet.hpp"

namespace gemlet {

/// Throws Error(cancelled) if somebody has asked to stop encoding `what`.
inline void check_cancelled(const Cancel* cancel, const char* what) {
  if (cancel != nullptr && cancel->load()) {
    throw Error(Error::Kind::cancelled, std::string("encoding ") + what + " was cancelled");
  }
}

}  // namespace gemlet
