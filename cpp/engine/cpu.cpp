#include "engine/cpu.hpp"

#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#include "gemlet/error.hpp"

namespace gemlet {

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

const kernels::Kernels& choose_kernels(const std::string& name) {
  if (name.empty()) return kernels::best();
  const kernels::Kernels* const* tables = nullptr;
  const std::size_t count = kernels::available(&tables);
  std::string names;
  for (std::size_t i = 0; i < count; ++i) {
    if (name == tables[i]->name) return *tables[i];
    names += std::string(i == 0 ? "" : ", ") + tables[i]->name;
  }
  throw Error(Error::Kind::argument, "isa is \"" + name + "\", this machine runs: " + names);
}

}  // namespace gemlet
