#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace gemlet {

/// Threads that spin briefly for the next piece of work and then sleep. Work is handed out in chunks from one atomic
/// counter, so that a slow core takes fewer of them. Callers from several threads take turns. In a forked child the
/// pool starts threads of its own when it needs them.
class ThreadPool {
 public:
  /// `threads` counts the caller: 1 means no extra thread. Throws Error if the system refuses a thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const noexcept;

  /// Calls body(begin, end, thread) for disjoint ranges that cover [0, count), each of at most `chunk` items.
  /// thread < threads() is unique among the calls that run at the same time. The body must not throw and must not
  /// call parallel_for. Throws Error in a forked child that the system refuses a thread.
  void parallel_for(std::size_t count, std::size_t chunk,
                    const std::function<void(std::size_t begin, std::size_t end, int thread)>& body);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gemlet
