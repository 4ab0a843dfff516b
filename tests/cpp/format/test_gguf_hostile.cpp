#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "gguf_mutator.hpp"
#include "try_model.hpp"

// Damaged and hostile versions of a complete model: each is refused with an Error, or loads and computes. None crashes,
// hangs, throws anything else or takes memory without bound. Batches of files run in child processes, so that a crash
// is counted and named and the rest still run.
//
//     test_gguf_hostile [FILES [SEED]]        run this many files (default 10000)
//     test_gguf_hostile --file INDEX [SEED]   run one file in this process, for a debugger
//     test_gguf_hostile --write PATH INDEX [SEED]

#if defined(__SANITIZE_ADDRESS__)
#define GEMLET_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GEMLET_ASAN 1
#endif
#endif

#ifdef GEMLET_ASAN
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "max_allocation_size_mb=256:allocator_may_return_null=0"; }
#endif

namespace {

constexpr std::uint64_t batch = 250;
constexpr unsigned seconds_a_file = 20;       // they take milliseconds; sanitizers and a busy machine, more
constexpr long max_resident_kb = 768 * 1024;  // of a child, sanitizer included

constexpr std::array<const char*, outcomes> outcome_names = {"refused at loading", "loaded, refused to compute",
                                                             "computed"};

/// Shared between the parent and the child of the moment.
struct Progress {
  std::uint64_t index;
  std::uint64_t failures;
  std::uint64_t counts[outcomes];
};

/// One file; false after printing what went wrong.
bool run_one(const MemoryFile& file, const std::string& bytes, Progress& progress) {
  if (!file.write(bytes)) {
    std::perror("cannot write a file in memory");
    return false;
  }
  try {
    ++progress.counts[try_model(file.path())];
    return true;
  } catch (const std::exception& error) {
    std::printf("file %lu: not an Error: %s\n", static_cast<unsigned long>(progress.index), error.what());
    return false;
  }
}

void limit_address_space() {
#ifndef GEMLET_ASAN  // which maps terabytes; it refuses single large allocations instead
  constexpr rlim_t most = rlim_t{2} << 30;
  const rlimit limit{most, most};
  ::setrlimit(RLIMIT_AS, &limit);
#endif
}

/// Runs files [begin, end) in a child; returns the index after the one that ended it.
std::uint64_t run_batch(const gguf::Builder& good, const MemoryFile& file, std::uint64_t seed, std::uint64_t begin,
                        std::uint64_t end, Progress& progress) {
  std::fflush(stdout);
  progress.index = begin;
  const pid_t child = ::fork();
  if (child < 0) {
    std::perror("fork");
    std::exit(2);
  }
  if (child == 0) {
    limit_address_space();
    for (std::uint64_t index = begin; index < end; ++index) {
      progress.index = index;
      ::alarm(seconds_a_file);
      const std::string bytes = gguf::Mutator(seed + index).mutate(good);
      if (!run_one(file, bytes, progress)) ++progress.failures;
    }
    ::alarm(0);
    std::exit(0);  // runs the leak sanitizer
  }
  int status = 0;
  rusage usage{};
  ::wait4(child, &status, 0, &usage);
  const bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (!clean) {
    ++progress.failures;
    const auto index = static_cast<unsigned long>(progress.index);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
      std::printf("file %lu: took longer than %u s\n", index, seconds_a_file);
    } else if (WIFSIGNALED(status)) {
      std::printf("file %lu: killed by signal %d\n", index, WTERMSIG(status));
    } else {
      std::printf("file %lu: ended with status %d\n", index, WEXITSTATUS(status));
    }
  }
  if (usage.ru_maxrss > max_resident_kb) {
    ++progress.failures;
    std::printf("files %lu to %lu: took %ld MB\n", static_cast<unsigned long>(begin),
                static_cast<unsigned long>(progress.index), usage.ru_maxrss / 1024);
  }
  return clean ? end : progress.index + 1;
}

bool run_all(const gguf::Builder& good, std::uint64_t files, std::uint64_t seed) {
  const MemoryFile file;
  void* shared = ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    std::perror("mmap");
    return false;
  }
  auto& progress = *new (shared) Progress{};

  // The good file must compute, or the hostile ones would prove nothing.
  bool passed = run_one(file, good.build().bytes, progress) && progress.counts[computed] == 1;
  if (!passed) std::printf("the file that is to be damaged does not compute\n");
  progress.counts[computed] = 0;

  for (std::uint64_t index = 0; passed && index < files && progress.failures < 20;) {
    index = run_batch(good, file, seed, index, std::min(files, index + batch), progress);
  }
  for (std::size_t i = 0; i < outcomes; ++i) {
    std::printf("%8lu %s\n", static_cast<unsigned long>(progress.counts[i]), outcome_names[i]);
  }
  std::printf("%8lu failed\n", static_cast<unsigned long>(progress.failures));
  // Every kind of ending occurs, and neither refusing nor accepting is the rule: the files reach all of the code.
  const std::uint64_t most = files - files / 10;
  if (passed && files >= 1000 && (progress.counts[refused] > most || progress.counts[computed] > most)) {
    std::printf("the files are too much alike\n");
    passed = false;
  }
  return passed && progress.failures == 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  const auto number = [&](std::size_t i, std::uint64_t fallback) {
    return i < args.size() ? std::stoull(args[i]) : fallback;
  };
  const gguf::Builder good = tiny::gemma3n();
  if (!args.empty() && args[0] == "--file") {
    Progress progress{.index = number(1, 0), .failures = 0, .counts = {}};
    const std::string bytes = gguf::Mutator(number(2, 1) + progress.index).mutate(good);
    return run_one(MemoryFile(), bytes, progress) ? 0 : 1;
  }
  if (args.size() >= 3 && args[0] == "--write") {
    const std::filesystem::path path = args[1];
    const std::string bytes = gguf::Mutator(number(3, 1) + number(2, 0)).mutate(good);
    std::ofstream(path, std::ios::binary) << bytes;
    return 0;
  }
  const bool passed = run_all(good, number(0, 10000), number(1, 1));
  std::printf("%d passed, %d failed\n", passed ? 1 : 0, passed ? 0 : 1);
  return passed ? 0 : 1;
}
