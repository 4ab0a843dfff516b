#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <functional>
#include <thread>
#include <vector>

#include "check.hpp"
#include "format/mapped_file.hpp"
#include "gguf_builder.hpp"

// What SIGBUS does beside MapGuard's maps. The handler is installed once in a process, so that each case has a process
// of its own, forked before this one has made a map.
using gemlet::MappedFile;

namespace {

constexpr std::size_t size = 1 << 20;

/// How a process ends that runs `body`: its exit code, or minus the signal that ended it.
int outcome(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 99;
    try {
      code = body();
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  CHECK(child > 0 && ::waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/// The sanitizers report the signal that would end the process, and then exit.
bool ended_by_bus_error(int found) {
#ifdef GEMLET_SANITIZED
  return found == -SIGBUS || found == 1 || found == 66;
#else
  return found == -SIGBUS;
#endif
}

/// A file in a folder of its own, cut to `left` bytes by cut().
struct File {
  gguf::TemporaryDirectory directory;
  std::filesystem::path path = directory.write("a", std::string(size, 'g'));
  void cut(std::size_t left = 10000) const { std::filesystem::resize_file(path, left); }
};

/// Somebody else's map, without a guard.
const volatile char* map_of(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  ::close(descriptor);
  return static_cast<const volatile char*>(data);
}

char touch(const MappedFile& file, std::size_t at) {
  return static_cast<char>(*static_cast<const volatile std::byte*>(&file.bytes()[at]));
}

/// Whether the file is known to be damaged.
bool damaged(const MappedFile& file) {
  try {
    file.check_intact();
    return false;
  } catch (const gemlet::Error& error) {
    return error.kind() == gemlet::Error::Kind::io;
  }
}

void handle(void (*action)(int, siginfo_t*, void*), int flags = 0) {
  struct sigaction made{};
  made.sa_sigaction = action;
  made.sa_flags = SA_SIGINFO | flags;
  ::sigaction(SIGBUS, &made, nullptr);
}

std::atomic<int> handled{0};
sigjmp_buf back;

/// As a program that reads maps of its own: gives up what it was doing.
void jump_back(int, siginfo_t*, void*) {
  ++handled;
  siglongjmp(back, 1);
}

bool jumps_back(const volatile char* map) {
  if (sigsetjmp(back, 1) != 0) return true;
  return map[size - 1] == 'x';
}

struct sigaction before{};

/// As Python's faulthandler: tells of the fault, restores the action before it and raises the signal again.
void tell_and_raise(int number, siginfo_t*, void*) {
  ++handled;
  ::sigaction(number, &before, nullptr);
  ::raise(number);
}

}  // namespace

TEST("a missing page of a guarded map does not end the process, nor change errno") {
  CHECK(outcome([] {
          const File a;
          const File b;
          const MappedFile cut(a.path);
          const MappedFile whole(b.path);
          a.cut();
          errno = EAGAIN;
          const bool zeros = touch(cut, size / 2) == 0 && touch(cut, size - 1) == 0 && touch(cut, 100) == 'g';
          return zeros && errno == EAGAIN && damaged(cut) && !damaged(whole) && touch(whole, size - 1) == 'g' ? 0 : 1;
        }) == 0);
}

TEST("threads may meet missing pages together, and a fork meets them by itself") {
  CHECK(outcome([] {
          const File a;
          const MappedFile file(a.path);
          a.cut();
          const int forked = outcome([&] { return touch(file, size - 1) == 0 && damaged(file) ? 0 : 1; });
          if (forked != 0 || damaged(file)) return 1;
          std::atomic<int> wrong{0};
          {
            std::vector<std::jthread> threads;
            for (std::size_t t = 0; t < 8; ++t) {
              threads.emplace_back([&, t] {
                for (std::size_t at = size - 1 - t; at > 20000; at -= 4096) wrong += touch(file, at) != 0;
              });
            }
          }
          return wrong == 0 && damaged(file) ? 0 : 1;
        }) == 0);
}

TEST("a map in the place of a damaged one is not damaged") {
  CHECK(outcome([] {
          for (int i = 0; i < 5; ++i) {
            const File a;
            const MappedFile file(a.path);
            if (damaged(file) || touch(file, size - 1) != 'g') return 1;
            a.cut();
            if (touch(file, size - 1) != 0 || !damaged(file)) return 2;
          }
          return 0;
        }) == 0);
}

TEST("a missing page of anybody else's map ends the process as ever") {
  CHECK(ended_by_bus_error(outcome([] {
    const File a;
    const MappedFile guarded(a.path);
    const auto* map = map_of(a.path);
    a.cut();
    return map[size - 1];
  })));
}

TEST("a handler that was there before gets the faults that are not gemlet's, each time") {
  CHECK(outcome([] {
          handle(&jump_back);
          const File a;
          const MappedFile guarded(a.path);
          const auto* map = map_of(a.path);
          a.cut();
          for (int i = 0; i < 3; ++i) {
            if (!jumps_back(map)) return 1;
          }
          return handled == 3 && touch(guarded, size - 1) == 0 && handled == 3 && damaged(guarded) ? 0 : 2;
        }) == 0);
}

TEST("a handler that comes later and raises the signal again leaves the maps guarded") {
  CHECK(outcome([] {
          const File a;
          const MappedFile guarded(a.path);
          ::sigaction(SIGBUS, nullptr, &before);
          handle(&tell_and_raise, SA_NODEFER);
          a.cut();
          const bool zero = touch(guarded, size - 1) == 0;
          return zero && damaged(guarded) && handled == 1 ? 0 : 1;
        }) == 0);
  CHECK(ended_by_bus_error(outcome([] {
    const File a;
    const MappedFile guarded(a.path);
    ::sigaction(SIGBUS, nullptr, &before);
    handle(&tell_and_raise, SA_NODEFER);
    const auto* map = map_of(a.path);
    a.cut();
    return map[size - 1];
  })));
}

TEST("a signal that is sent does what it did before") {
  const auto sent = [](void (*action)(int), bool by_raise) {
    return outcome([=] {
      ::signal(SIGBUS, action);
      const File a;
      const MappedFile guarded(a.path);
      by_raise ? ::raise(SIGBUS) : ::kill(::getpid(), SIGBUS);
      return 7;
    });
  };
  for (const bool by_raise : {false, true}) {
    CHECK(sent(SIG_IGN, by_raise) == 7);
    CHECK(sent([](int) { ::_exit(8); }, by_raise) == 8);
    CHECK(sent(SIG_DFL, by_raise) == -SIGBUS);
  }
}

int main() { return check::run_tests(); }
