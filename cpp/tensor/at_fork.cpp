#include "tensor/at_fork.hpp"

#include <pthread.h>

#include <set>
#include <utility>

namespace gemlet {
namespace {

struct Registry {
  std::mutex mutex;
  std::set<const ForkHandlers*> all;
  unsigned generation = 0;
};

void run_all(std::function<void()> ForkHandlers::* which);

// Never destroyed: objects with static storage may end later than it would.
Registry& registry() {
  static Registry* const made = [] {
    auto* fresh = new Registry;
    pthread_atfork(
        [] {
          registry().mutex.lock();
          run_all(&ForkHandlers::before);
        },
        [] {
          run_all(&ForkHandlers::in_parent);
          registry().mutex.unlock();
        },
        [] {
          ++registry().generation;
          run_all(&ForkHandlers::in_child);
          registry().mutex.unlock();
        });
    return fresh;
  }();
  return *made;
}

void run_all(std::function<void()> ForkHandlers::* which) {
  for (const ForkHandlers* handlers : registry().all) {
    if (const auto& call = handlers->*which) call();
  }
}

}  // namespace

AtFork::AtFork(ForkHandlers handlers) : handlers_(std::move(handlers)) {
  const std::lock_guard lock(registry().mutex);
  registry().all.insert(&handlers_);
}

AtFork::~AtFork() {
  const std::lock_guard lock(registry().mutex);
  registry().all.erase(&handlers_);
}

unsigned fork_generation() noexcept { return registry().generation; }

}  // namespace gemlet
