#include "bindings/c_api_call.hpp"

#include <cstring>

namespace gemlet {
namespace {

/// `message` with a zero byte after it, cut to fit between two UTF-8 characters.
void copy_cut(std::string_view message, std::span<char> to) {
  std::size_t length = std::min(message.size(), to.size() - 1);
  if (length < message.size()) {
    while (length > 0 && (static_cast<unsigned char>(message[length]) & 0xc0) == 0x80) --length;
  }
  std::memcpy(to.data(), message.data(), length);
  to[length] = '\0';
}

}  // namespace

gemlet_status status_of(Error::Kind kind) {
  switch (kind) {
    case Error::Kind::io:
      return GEMLET_IO;
    case Error::Kind::format:
      return GEMLET_FORMAT;
    case Error::Kind::unsupported:
      return GEMLET_UNSUPPORTED;
    case Error::Kind::argument:
      return GEMLET_ARGUMENT;
    case Error::Kind::context:
      return GEMLET_CONTEXT;
    case Error::Kind::cancelled:
      return GEMLET_CANCELLED;
    case Error::Kind::memory:
      return GEMLET_MEMORY;
    case Error::Kind::overload:  // of schedulers, which the C interface does not have
      break;
  }
  return GEMLET_INTERNAL;
}

gemlet_status report(gemlet_error* error, gemlet_status status, std::string_view message) noexcept {
  if (error != nullptr) {
    gemlet_error written{};
    written.status = status;
    copy_cut(message, written.message);
    write_struct(error, error->struct_size, written);
  }
  return status;
}

}  // namespace gemlet
