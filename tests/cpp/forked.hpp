#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>

namespace forked {

/// Says so where a process with threads cannot be forked: under qemu's user mode, which ends it with an assertion of
/// its own. scripts/lib/emulate.sh tells.
inline bool skipped() {
  if (std::getenv("GEMLET_EMULATED") == nullptr) return false;
  std::printf("      skipped: the emulator cannot fork a process with threads\n");
  return true;
}

/// Whether `body` is true in a forked child, which is ended should it hang.
inline bool in_child(const std::function<bool()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    bool good = false;
    try {
      good = body();
    } catch (...) {  // the same as false
    }
    _exit(good ? 0 : 1);
  }
  int status = -1;
  return waitpid(child, &status, 0) == child && status == 0;
}

}  // namespace forked
