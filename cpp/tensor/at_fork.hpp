#pragma once

#include <functional>
#include <mutex>

namespace gemlet {

/// What happens to an object when the process forks. The child has none of the parent's other threads, and finds locks
/// as they held them. Each function may be empty.
struct ForkHandlers {
  std::function<void()> before{};     ///< in the thread that forks
  std::function<void()> in_parent{};  ///< afterwards
  std::function<void()> in_child{};   ///< afterwards, in the child's only thread
};

/// Registers handlers as long as it lives. What they refer to is static or on the heap: the stacks of other threads are
/// nobody's in the child. Handlers must not throw and must not make or end an AtFork.
class AtFork {
 public:
  explicit AtFork(ForkHandlers handlers);
  ~AtFork();
  AtFork(const AtFork&) = delete;
  AtFork& operator=(const AtFork&) = delete;

 private:
  ForkHandlers handlers_;
};

/// How many forks lie between this process and the one that loaded the library.
unsigned fork_generation() noexcept;

/// A mutex that a fork waits for, so that the child finds it free and what it guards whole. Whoever holds it waits for
/// nothing else and makes or ends no AtFork.
class ForkMutex {
 public:
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
  AtFork at_fork_{{.before = [this] { mutex_.lock(); },
                   .in_parent = [this] { mutex_.unlock(); },
                   .in_child = [this] { mutex_.unlock(); }}};
};

}  // namespace gemlet
