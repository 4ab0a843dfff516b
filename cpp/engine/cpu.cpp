#include "engine/cpu.hpp"

#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <thread>

#include "gemlet/error.hpp"

namespace gemlet {
namespace {

constexpr double unlimited = std::numeric_limits<double>::infinity();

int physical_cores() {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
    std::set<std::string> cores;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &allowed)) continue;
      // Threads of one core name the same list of siblings.
      std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
      std::string siblings;
      cores.insert(std::getline(file, siblings) ? siblings : "cpu" + std::to_string(cpu));
    }
    if (!cores.empty()) return static_cast<int>(cores.size());
  }
#endif
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

// Both in microseconds. Version 2 has "QUOTA PERIOD" in one file, and "max" for no limit; version 1 a file for each,
// and a quota of -1.
double quota_of(const std::filesystem::path& group) {
  double quota = -1;
  double period = 0;
  if (std::ifstream file(group / "cpu.max"); file) {
    file >> quota >> period;
  } else {
    std::ifstream(group / "cpu.cfs_quota_us") >> quota;
    std::ifstream(group / "cpu.cfs_period_us") >> period;
  }
  return quota > 0 && period > 0 ? quota / period : unlimited;
}

}  // namespace

double processor_quota(const std::filesystem::path& root) {
  const std::filesystem::path mounted = root / "sys/fs/cgroup";
  std::ifstream groups(root / "proc/self/cgroup");
  double least = unlimited;
  // NUMBER:CONTROLLERS:/GROUP, without controllers in version 2.
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    // The group itself and all that it is in; a container may see only the last of them, as the mounted folder itself.
    for (std::filesystem::path group = line.substr(second + 1);; group = group.parent_path()) {
      for (const std::string& folder : {controllers, std::string(controllers.empty() ? "" : "cpu")}) {
        least = std::min(least, quota_of(mounted / folder / group.relative_path()));
      }
      if (!group.has_relative_path()) break;
    }
  }
  return least;
}

int usable_cores(const std::filesystem::path& root) {
  // Rounded up: a thread that must wait for a part of each period does more than one that is not there.
  const double quota = std::ceil(processor_quota(root));
  const int cores = physical_cores();
  return quota < cores ? std::max(1, static_cast<int>(quota)) : cores;
}

int choose_threads(int requested) {
  constexpr int most = 256;
  if (requested < 0 || requested > most) {
    throw Error(Error::Kind::argument, "threads is " + std::to_string(requested) + ", expected 1 to " +
                                           std::to_string(most) + ", or 0 for one each core");
  }
  return requested == 0 ? std::min(usable_cores(), most) : requested;
}

const kernels::Kernels& choose_kernels(const std::string& name) {
  if (name.empty()) return kernels::best();
  const kernels::Kernels* const* tables = nullptr;
  const std::size_t count = kernels::available(&tables);
  std::string names;
  for (std::size_t i = 0; i < count; ++i) {
    if (name == tables[i]->name) return *tables[i];
    names += std::string(i == 0 ? "" : ", ") + tables[i]->name;
  }
  throw Error(Error::Kind::argument,
              "kernels is \"" + name + "\", expected one of those that this machine runs: " + names);
}

}  // namespace gemlet
