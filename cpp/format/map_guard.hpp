#pragma once

#include <atomic>
#include <cstddef>
#include <span>

namespace gemlet {

/// Keeps one map alive whose file is truncated, or whose disk fails, while it is read.
///
/// Touching a page that the system cannot supply raises SIGBUS, which ends a process by default. The first guard
/// installs a handler for it, once for the process. Where the address lies in a guarded map, the handler notes the
/// damage, puts zeros in the place of the missing page and of all after it, and lets the thread go on; whoever reads
/// the map asks damaged() before using what was computed from it. Any other SIGBUS goes to the action that was
/// installed before, or ends the process as if there were no handler.
///
/// A handler that somebody installs later comes first. One that calls the earlier action, or restores it and raises the
/// signal again (Python's faulthandler), leaves the maps guarded where a file was truncated; one that replaces it for
/// good does not: that is how a program opts out, as the handler is never installed twice. A fork inherits handler and
/// guards.
class MapGuard {
 public:
  MapGuard();  ///< watches nothing yet
  ~MapGuard();
  MapGuard(const MapGuard&) = delete;
  MapGuard& operator=(const MapGuard&) = delete;

  /// From here on, until unwatch() or the end. `descriptor` is the mapped file.
  void watch(std::span<const std::byte> map, int descriptor) noexcept;
  void unwatch() noexcept;

  /// Whether a page of the map was missing. One load, as long as that has happened to no map of the process.
  bool damaged() const noexcept { return any_damage_.load(std::memory_order_acquire) && damaged_at() != none; }
  /// The first byte of the first page that was found missing.
  std::size_t damaged_at() const noexcept;

  static constexpr std::size_t none = static_cast<std::size_t>(-1);

 private:
  friend struct MapGuardHandler;
  struct Slot;

  static std::atomic<bool> any_damage_;
  Slot* slot_;
};

}  // namespace gemlet
