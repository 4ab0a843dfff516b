#include "format/map_guard.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <memory>

namespace gemlet {

// Of one watched map. Slots are used again and never freed, as a handler may look at them at any time. A handler that
// finds `begin` unchanged around its reading of the rest has read one map: watch() writes `begin` last, unwatch()
// first, and the map that the handler's own thread has touched does not change meanwhile.
struct MapGuard::Slot {
  std::atomic<bool> taken{true};
  std::atomic<std::uintptr_t> begin{0};  // 0: watches nothing
  std::atomic<std::uintptr_t> end{0};    // of its last page
  std::atomic<int> descriptor{-1};
  std::atomic<std::size_t> damaged_at{none};
  Slot* next = nullptr;
};

std::atomic<bool> MapGuard::any_damage_{false};

/// Everything here but install() runs in a signal handler: it calls nothing that is not safe there, and takes no lock.
struct MapGuardHandler {
  using Slot = MapGuard::Slot;

  static_assert(std::atomic<std::uintptr_t>::is_always_lock_free && std::atomic<Slot*>::is_always_lock_free &&
                std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

  static inline std::atomic<Slot*> slots{nullptr};  // a list that only grows
  static inline std::uintptr_t page_bytes = 0;
  static inline struct sigaction previous{};
  static inline std::atomic<bool> was_reset{false};  // a previous handler for one signal only has had it

  static bool install() {
    page_bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    ::sigaction(SIGBUS, nullptr, &previous);
    struct sigaction action{};
    action.sa_sigaction = &on_bus_error;
    // Otherwise as the action expects it that the signal may be passed on to.
    action.sa_mask = previous.sa_mask;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | (previous.sa_flags & (SA_NODEFER | SA_RESTART));
    return ::sigaction(SIGBUS, &action, nullptr) == 0;
  }

  static void on_bus_error(int number, siginfo_t* info, void* context) {
    const int saved = errno;
    const bool repaired = is_missing_page(*info) && repair(reinterpret_cast<std::uintptr_t>(info->si_addr));
    errno = saved;
    if (!repaired) pass_on(number, info, context);
  }

  /// By kill() or raise(), not by a memory access.
  static bool is_sent(const siginfo_t& info) { return info.si_code <= 0 || info.si_code == SI_USER; }

  static bool is_missing_page(const siginfo_t& info) { return !is_sent(info) && info.si_code != BUS_ADRALN; }

  static bool repair(std::uintptr_t address) {
    for (Slot* slot = slots.load(std::memory_order_acquire); slot != nullptr; slot = slot->next) {
      const std::uintptr_t begin = slot->begin.load(std::memory_order_acquire);
      const std::uintptr_t end = slot->end.load(std::memory_order_acquire);
      if (begin == 0 || address < begin || address >= end || begin != slot->begin.load(std::memory_order_acquire)) {
        continue;
      }
      const std::uintptr_t page = address / page_bytes * page_bytes;
      // Before anybody can read the zeros.
      std::size_t expected = MapGuard::none;
      slot->damaged_at.compare_exchange_strong(expected, page - begin);
      MapGuard::any_damage_.store(true);
      return ::mmap(reinterpret_cast<void*>(page), end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                    0) != MAP_FAILED;
    }
    return false;
  }

  static void pass_on(int number, siginfo_t* info, void* context) {
    if (is_raised_again(*info)) return;
    if ((previous.sa_flags & static_cast<int>(SA_RESETHAND)) != 0 && was_reset.exchange(true))
      return end(number, *info);
    if ((previous.sa_flags & SA_SIGINFO) != 0) return previous.sa_sigaction(number, info, context);
    if (previous.sa_handler == SIG_IGN && is_sent(*info)) return;
    if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) return previous.sa_handler(number);
    end(number, *info);
  }

  static void end(int number, const siginfo_t& info) {
    struct sigaction action{};
    action.sa_handler = SIG_DFL;
    ::sigaction(SIGBUS, &action, nullptr);
    if (is_sent(info)) ::raise(number);  // a memory access is repeated by itself, and ends the process where it is
  }

  /// Whether a handler that came first has passed a missing page on by raise(), which tells no address. The access is
  /// then repeated, and comes here by itself.
  static bool is_raised_again([[maybe_unused]] const siginfo_t& info) {
#ifdef SI_TKILL
    if ((info.si_code != SI_TKILL && info.si_code != SI_USER) || info.si_pid != ::getpid()) return false;
    for (const Slot* slot = slots.load(std::memory_order_acquire); slot != nullptr; slot = slot->next) {
      const std::uintptr_t begin = slot->begin.load(std::memory_order_acquire);
      struct stat status{};
      if (begin != 0 && ::fstat(slot->descriptor.load(std::memory_order_acquire), &status) == 0 &&
          status.st_size + static_cast<off_t>(page_bytes) <= static_cast<off_t>(slot->end.load() - begin)) {
        return true;
      }
    }
#endif
    return false;
  }
};

MapGuard::MapGuard() {
  static const bool installed = MapGuardHandler::install();
  static_cast<void>(installed);
  std::atomic<Slot*>& slots = MapGuardHandler::slots;
  for (slot_ = slots.load(std::memory_order_acquire); slot_ != nullptr; slot_ = slot_->next) {
    if (!slot_->taken.exchange(true)) return;
  }
  slot_ = std::make_unique<Slot>().release();
  slot_->next = slots.load(std::memory_order_relaxed);
  while (!slots.compare_exchange_weak(slot_->next, slot_, std::memory_order_release, std::memory_order_relaxed)) {
  }
}

MapGuard::~MapGuard() {
  unwatch();
  slot_->taken.store(false);
}

void MapGuard::watch(std::span<const std::byte> map, int descriptor) noexcept {
  const auto begin = reinterpret_cast<std::uintptr_t>(map.data());
  const std::uintptr_t page = MapGuardHandler::page_bytes;
  slot_->damaged_at.store(none);
  slot_->descriptor.store(descriptor);
  slot_->end.store((begin + map.size() + page - 1) / page * page);
  slot_->begin.store(begin);
}

void MapGuard::unwatch() noexcept { slot_->begin.store(0); }

std::size_t MapGuard::damaged_at() const noexcept { return slot_->damaged_at.load(std::memory_order_acquire); }

}  // namespace gemlet
