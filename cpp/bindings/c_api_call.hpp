#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <new>
#include <span>
#include <string>
#include <string_view>

#include "bindings/busy.hpp"
#include "bindings/c_api_struct.hpp"
#include "bindings/c_api_values.hpp"
#include "gemlet/gemlet.h"
#include "gemlet/gemlet.hpp"

// What the calls of the C interface have in common.
namespace gemlet {

gemlet_status status_of(Error::Kind kind);

/// Fills in `error`, if there is one, and returns the status.
gemlet_status report(gemlet_error* error, gemlet_status status, std::string_view message) noexcept;

/// Runs `body`; no exception gets past it.
template <typename Body>
gemlet_status guarded(gemlet_error* error, const Body& body) noexcept {
  if (error != nullptr && !is_struct_size(error->struct_size, error_kind)) return GEMLET_ARGUMENT;
  try {
    body();
    return GEMLET_OK;
  } catch (const Error& caught) {
    return report(error, status_of(caught.kind()), caught.what());
  } catch (const std::bad_alloc&) {
    return report(error, GEMLET_MEMORY, "out of memory");
  } catch (const std::exception& caught) {
    return report(error, GEMLET_INTERNAL, caught.what());
  } catch (...) {
    return report(error, GEMLET_INTERNAL, "unknown exception");
  }
}

/// Copies what there is room for; `*count` is what there is.
template <typename T>
void copy_out(std::span<const T> from, std::span<T> to, std::size_t* count) {
  std::copy_n(from.begin(), std::min(from.size(), to.size()), to.begin());
  *count = from.size();
}

/// Likewise, with a zero byte after the text where there is room.
inline void copy_out(const std::string& from, std::span<char> to, std::size_t* length) {
  std::copy_n(from.c_str(), std::min(from.size() + 1, to.size()), to.begin());
  *length = from.size();
}

template <typename Handle>
Handle& checked(Handle* handle, const char* name) {
  require(handle, name);
  return *handle;
}

/// A call on a handle that one thread uses at a time: refuses one from another thread, or from inside a callback, while
/// it lasts.
template <typename Handle>
class Use {
 public:
  Use(Handle* handle, const char* name) : handle_(checked(handle, name)), use_(handle_.busy) {}

  Handle* operator->() const { return &handle_; }
  /// Forgets what was cancelled before, for a call that can be cancelled.
  const Cancel* cancel() const {
    handle_.cancel.store(false);
    return &handle_.cancel;
  }
  bool cancelled() const { return handle_.cancel.load(); }

 private:
  Handle& handle_;
  Busy::Use use_;
};

/// Frees such a handle. In a forked child, what a thread of the parent was changing cannot be ended.
template <typename Handle>
void free_unless_lost(Handle* handle) {
  if (handle == nullptr || handle->busy.take_lost_use()) return;
  delete handle;
}

}  // namespace gemlet
