#pragma once

#include <stdexcept>
#include <string>

#include "gemlet/export.h"

namespace gemlet {

/// Everything the library throws. The message names the file, tensor, field or argument, what was expected and what
/// was found. `kind` lets a caller react without reading the text.
class GEMLET_API Error : public std::runtime_error {
 public:
  enum class Kind {
    io,           ///< a file that cannot be opened, read, mapped or written
    format,       ///< a file whose contents are malformed or damaged
    unsupported,  ///< well-formed, but an architecture, type or version that gemlet does not run
    argument,     ///< a value passed by the caller
    context,      ///< more tokens than the context holds
    cancelled,    ///< the caller asked to stop
    memory,       ///< an allocation that the system refused
    overload,     ///< more at once than the caller allowed: to be asked again later
  };

  Error(Kind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  Kind kind() const noexcept { return kind_; }

 private:
  Kind kind_;
};

}  // namespace gemlet
