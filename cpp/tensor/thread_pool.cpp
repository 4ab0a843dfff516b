#include "tensor/thread_pool.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "gemlet/error.hpp"
#include "tensor/at_fork.hpp"

namespace gemlet {
namespace {

using Body = std::function<void(std::size_t, std::size_t, int)>;

// The state word: how many workers are inside the current job, whether it is open to more, and its number. A worker
// joins by compare-and-swap while the job is open; the caller closes it when the chunks have run out and then waits
// for those inside only. A worker that wakes late therefore costs nobody anything.
constexpr std::uint32_t inside = 0xFF;
constexpr std::uint32_t open = 0x100;
constexpr std::uint32_t stop = 0x200;
constexpr std::uint32_t job = 0x400;  // one job; the number wraps around

constexpr int max_threads = 256;

// Longer than the single-threaded steps between two matrix products of a decode step, shorter than a person notices.
constexpr std::chrono::microseconds spin_time{50};

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// True as soon as `done()`, false when the time is up.
template <typename Done>
bool spin_until(const Done& done) {
  const auto deadline = std::chrono::steady_clock::now() + spin_time;
  do {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

// A fault whose signal is blocked ends the process past its handler (MapGuard), and a thread inherits what its maker
// blocks.
void unblock_faults() {
  sigset_t faults;
  sigemptyset(&faults);
  sigaddset(&faults, SIGBUS);
  pthread_sigmask(SIG_UNBLOCK, &faults, nullptr);
}

struct Shared {
  std::mutex turn;  // held by the caller whose job runs
  std::vector<std::thread> workers;

  // The job: written by the caller before it opens it, read by workers that have joined.
  const Body* body = nullptr;
  std::size_t count = 0;
  std::size_t chunk = 0;

  alignas(64) std::atomic<std::size_t> next{0};
  alignas(64) std::atomic<std::uint32_t> state{0};
  alignas(64) std::atomic<std::uint32_t> emptied{0};  // changes when the last worker leaves a closed job

  void take_chunks(int thread) {
    for (std::size_t begin; (begin = next.fetch_add(chunk, std::memory_order_relaxed)) < count;) {
      (*body)(begin, begin + std::min(chunk, count - begin), thread);
    }
  }

  void work(int thread) {
    unblock_faults();
    std::uint32_t seen = 0;  // the number of the last job joined; the first job has number 1
    while (true) {
      std::uint32_t now = state.load(std::memory_order_acquire);
      const auto idle = [&] { return (now & stop) == 0 && ((now & open) == 0 || now / job == seen); };
      const auto news = [&] {
        now = state.load(std::memory_order_acquire);
        return !idle();
      };
      if (idle() && !spin_until(news)) {
        while (idle()) {
          state.wait(now, std::memory_order_acquire);
          now = state.load(std::memory_order_acquire);
        }
      }
      if ((now & stop) != 0) return;
      if (!state.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel)) continue;
      seen = now / job;
      take_chunks(thread);
      const std::uint32_t left = state.fetch_sub(1, std::memory_order_acq_rel) - 1;
      if ((left & (inside | open)) == 0) {
        emptied.fetch_add(1, std::memory_order_acq_rel);
        emptied.notify_one();
      }
    }
  }

  void run(const Body& work_body, std::size_t work_count, std::size_t work_chunk) {
    body = &work_body;
    count = work_count;
    chunk = work_chunk;
    next.store(0, std::memory_order_relaxed);
    const std::uint32_t last = state.load(std::memory_order_relaxed);  // closed and empty: nobody else changes it
    state.store(last + job + open, std::memory_order_release);
    state.notify_all();

    take_chunks(0);

    state.fetch_sub(open, std::memory_order_acq_rel);
    const auto empty = [this] { return (state.load(std::memory_order_acquire) & inside) == 0; };
    if (spin_until(empty)) return;
    while (true) {
      const std::uint32_t before = emptied.load(std::memory_order_acquire);
      if (empty()) return;
      emptied.wait(before, std::memory_order_acquire);
    }
  }

  /// With the turn, or before anybody else knows of this.
  void start_workers(int threads) {
    const auto wanted = static_cast<std::size_t>(threads - 1);
    if (workers.size() == wanted) return;
    try {
      workers.reserve(wanted);
      while (workers.size() < wanted) {
        workers.emplace_back([this, thread = static_cast<int>(workers.size()) + 1] { work(thread); });
      }
    } catch (const std::exception& error) {  // std::system_error from the thread, std::bad_alloc from the vector
      throw Error(Error::Kind::memory, "cannot start thread " + std::to_string(workers.size() + 2) + " of " +
                                           std::to_string(threads) + ": " + error.what());
    }
  }

  void stop_and_join() {
    state.fetch_or(stop, std::memory_order_acq_rel);
    state.notify_all();
    for (std::thread& worker : workers) worker.join();
  }
};

}  // namespace

struct ThreadPool::Impl {
  explicit Impl(int count) : threads(count) {}

  /// In a forked child: the threads are the parent's, and so is what they may have been doing to this.
  void renew() {
    (void)shared.release();
    shared = std::make_unique<Shared>();
  }

  int threads;
  std::unique_ptr<Shared> shared = std::make_unique<Shared>();
  AtFork at_fork{{.in_child = [this] { renew(); }}};
};

ThreadPool::ThreadPool(int threads) {
  if (threads < 1 || threads > max_threads) {
    throw Error(Error::Kind::argument,
                "threads: expected 1 to " + std::to_string(max_threads) + ", found " + std::to_string(threads));
  }
  impl_ = std::make_unique<Impl>(threads);
  try {
    impl_->shared->start_workers(threads);
  } catch (...) {
    impl_->shared->stop_and_join();
    throw;
  }
}

ThreadPool::~ThreadPool() { impl_->shared->stop_and_join(); }

int ThreadPool::threads() const noexcept { return impl_->threads; }

void ThreadPool::parallel_for(std::size_t count, std::size_t chunk, const Body& body) {
  if (count == 0) return;
  Shared& shared = *impl_->shared;
  const std::lock_guard turn(shared.turn);
  if (count <= chunk) {
    body(0, count, 0);
  } else if (impl_->threads == 1) {
    for (std::size_t begin = 0; begin < count; begin += chunk) body(begin, std::min(begin + chunk, count), 0);
  } else {
    shared.start_workers(impl_->threads);
    shared.run(body, count, chunk);
  }
}

}  // namespace gemlet
