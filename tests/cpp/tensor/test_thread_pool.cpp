#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "forked.hpp"
#include "gemlet/error.hpp"
#include "tensor/buffer.hpp"
#include "tensor/thread_pool.hpp"

namespace {

using gemlet::Buffer;
using gemlet::Error;
using gemlet::ThreadPool;

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// Runs a job and checks what parallel_for promises. The counters are plain: the pool must order what the body writes
// before what the caller reads, which the thread sanitizer checks.
void check_job(ThreadPool& pool, std::size_t count, std::size_t chunk) {
  std::vector<int> visits(count, 0);
  std::vector<std::atomic<bool>> busy(static_cast<std::size_t>(pool.threads()));
  std::atomic<int> errors{0};
  pool.parallel_for(count, chunk, [&](std::size_t begin, std::size_t end, int thread) {
    const bool fits = begin < end && end <= count && end - begin <= chunk && thread >= 0 && thread < pool.threads();
    if (!fits || busy[static_cast<std::size_t>(thread)].exchange(true)) {
      ++errors;
      return;
    }
    for (std::size_t i = begin; i < end; ++i) ++visits[i];
    busy[static_cast<std::size_t>(thread)] = false;
  });
  CHECK(errors == 0);
  for (const int n : visits) CHECK(n == 1);
}

}  // namespace

TEST("every item is visited once, in ranges of at most a chunk") {
  for (int threads = 1; threads <= 8; ++threads) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (const std::size_t count : {0, 1, 2, 3, 7, 64, 1000}) {
      for (const std::size_t chunk : {1, 2, 5, 64, 2000}) check_job(pool, count, chunk);
    }
  }
}

TEST("a forked child has threads of its own") {
  if (forked::skipped()) return;
  ThreadPool pool(3);
  check_job(pool, 1000, 1);
  std::atomic<bool> stop = false;
  std::thread other([&] {
    while (!stop) pool.parallel_for(1000, 1, [](std::size_t, std::size_t, int) {});
  });
  const auto all_threads_work = [&] {
    std::atomic<int> inside = 0;
    pool.parallel_for(3, 1, [&](std::size_t, std::size_t, int) {
      ++inside;
      while (inside < 3) std::this_thread::yield();
    });
    check_job(pool, 1000, 1);
    return true;
  };
  bool good = true;
  for (int i = 0; i < 20; ++i) good = forked::in_child(all_threads_work) && good;
  good = forked::in_child([&] { return all_threads_work() && forked::in_child(all_threads_work); }) && good;
  stop = true;
  other.join();
  CHECK(good);
  CHECK(all_threads_work());
}

TEST("many short jobs, one after the other") {
  ThreadPool pool(4);
  std::size_t total = 0;
  for (std::size_t job = 0; job < 20000; ++job) {
    std::vector<std::size_t> sums(4, 0);
    pool.parallel_for(16, 3, [&](std::size_t begin, std::size_t end, int thread) {
      for (std::size_t i = begin; i < end; ++i) sums[static_cast<std::size_t>(thread)] += i + job;
    });
    for (const std::size_t sum : sums) total += sum;
  }
  CHECK(total == 20000ULL * 120 + 16ULL * (20000ULL * 19999 / 2));
}

TEST("several threads take part in a long job") {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> items(4);
  std::atomic<int> arrived{0};
  pool.parallel_for(4, 1, [&](std::size_t, std::size_t, int thread) {
    ++items[static_cast<std::size_t>(thread)];
    ++arrived;
    while (arrived < 4) std::this_thread::yield();  // nobody goes on before all are here
  });
  for (const auto& n : items) CHECK(n == 1);
}

TEST("a slow thread leaves its share to the others") {
  ThreadPool pool(3);
  std::vector<std::atomic<int>> items(3);
  pool.parallel_for(120, 1, [&](std::size_t, std::size_t, int thread) {
    ++items[static_cast<std::size_t>(thread)];
    while (thread != 0 && items[0] == 0) std::this_thread::yield();
    while (thread == 0 && items[1] + items[2] < 110) std::this_thread::yield();  // slower than all others together
  });
  CHECK(items[0] >= 1 && items[0] <= 10);  // an equal share is 40
  CHECK(items[0] + items[1] + items[2] == 120);
}

TEST("a job that fits one chunk runs on the caller") {
  ThreadPool pool(4);
  std::thread::id where;
  int index = -1;
  pool.parallel_for(5, 5, [&](std::size_t begin, std::size_t end, int thread) {
    CHECK(begin == 0 && end == 5);
    where = std::this_thread::get_id();
    index = thread;
  });
  CHECK(where == std::this_thread::get_id());
  CHECK(index == 0);
}

TEST("callers from several threads take turns") {
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  std::vector<std::atomic<bool>> busy(3);
  std::atomic<int> errors{0};
  std::atomic<std::size_t> items{0};
  for (int c = 0; c < 6; ++c) {
    callers.emplace_back([&, c] {
      for (std::size_t job = 0; job < 300; ++job) {
        // Jobs of one chunk too: their thread index 0 must not meet another's.
        pool.parallel_for(1 + (job + static_cast<std::size_t>(c)) % 20, 2,
                          [&](std::size_t begin, std::size_t end, int t) {
                            if (busy[static_cast<std::size_t>(t)].exchange(true)) ++errors;
                            items += end - begin;
                            busy[static_cast<std::size_t>(t)] = false;
                          });
      }
    });
  }
  for (auto& caller : callers) caller.join();
  CHECK(errors == 0);
  CHECK(items == 6U * 15U * 210U);
}

TEST("a pool without work sleeps") {
  ThreadPool pool(4);
  check_job(pool, 100, 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK(cpu_seconds() - before < 0.05);
  check_job(pool, 100, 1);  // and wakes
}

TEST("a pool comes and goes without having worked") {
  for (int i = 0; i < 200; ++i) ThreadPool pool(1 + i % 8);
}

TEST("a number of threads that makes no sense is refused") {
  for (const int threads : {0, -1, 257, 1 << 30}) {
    const std::string message = check::throws<Error>([&] { ThreadPool pool(threads); });
    CHECK(message.find(std::to_string(threads)) != std::string::npos);
  }
}

// Sanitizers reserve terabytes of addresses, which the limit would take from them.
#if !defined(GEMLET_SANITIZED)
TEST("a thread that the system refuses is an error, and the others end") {
  constexpr std::size_t limit_bytes = 64 << 20;  // of addresses: less than the stacks of 200 threads
  constexpr int not_enforced = 9;                // as under qemu
  const pid_t child = fork();
  if (child == 0) {
    const rlimit limit{limit_bytes, limit_bytes};
    int code = setrlimit(RLIMIT_AS, &limit);
    try {
      const Buffer buffer(2 * limit_bytes);
      _exit(not_enforced);
    } catch (const Error&) {
    }
    try {
      const ThreadPool pool(200);
      code = 1;
    } catch (const Error& error) {
      code += error.kind() == Error::Kind::memory ? 0 : 2;
    } catch (...) {
      code = 3;
    }
    _exit(code);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  if (WEXITSTATUS(status) == not_enforced) {
    std::printf("      skipped: the limit on addresses is not enforced here\n");
  } else {
    CHECK(WEXITSTATUS(status) == 0);
  }
}
#endif

int main() { return check::run_tests(); }
