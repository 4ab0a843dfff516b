#include <cmath>

#include "check.hpp"
#include "engine/cpu.hpp"
#include "gguf_builder.hpp"

// Quotas of processor time as control groups show them, in a folder that stands for /.
namespace {

using namespace gemlet;

class Root {
 public:
  explicit Root(const std::string& groups) { put("proc/self/cgroup", groups); }

  void put(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories((directory_.path() / file).parent_path());
    directory_.write(file, text);
  }
  double quota() const { return processor_quota(directory_.path()); }
  int cores() const { return usable_cores(directory_.path()); }

 private:
  gguf::TemporaryDirectory directory_;
};

TEST("version 2: the least quota from the group up to the root") {
  const Root root("0::/system.slice/run.service\n");
  root.put("sys/fs/cgroup/system.slice/run.service/cpu.max", "max 100000\n");
  CHECK(std::isinf(root.quota()));
  root.put("sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n");
  CHECK(root.quota() == 1.5);
  root.put("sys/fs/cgroup/system.slice/run.service/cpu.max", "20000 50000\n");
  CHECK(root.quota() == 0.4 && root.cores() == 1);
}

TEST("version 2 in a container: its group is the mounted root") {
  for (const char* group : {"0::/\n", "0::/docker/0123\n", "0::/../other\n"}) {
    const Root root(group);
    root.put("sys/fs/cgroup/cpu.max", "100000 100000\n");
    CHECK(root.quota() == 1 && root.cores() == 1);
  }
}

TEST("version 1: the cpu controller's group, whatever the folder is called") {
  for (const char* folder : {"cpu", "cpu,cpuacct"}) {
    const std::string mounted = std::string("sys/fs/cgroup/") + folder;
    const Root root("5:memory:/a\n4:cpu,cpuacct:/pod/one\n3:cpuset:/b\n0::/c\n");
    root.put("sys/fs/cgroup/memory/a/cpu.cfs_quota_us", "1000\n");
    root.put("sys/fs/cgroup/memory/a/cpu.cfs_period_us", "100000\n");
    root.put(mounted + "/cpu.cfs_quota_us", "-1\n");
    root.put(mounted + "/cpu.cfs_period_us", "100000\n");
    CHECK(std::isinf(root.quota()));
    root.put(mounted + "/pod/one/cpu.cfs_quota_us", "250000\n");
    root.put(mounted + "/pod/one/cpu.cfs_period_us", "100000\n");
    CHECK(root.quota() == 2.5);
  }
}

TEST("no groups, or files that say something else: no limit") {
  CHECK(std::isinf(Root("").quota()));
  CHECK(std::isinf(Root("0::/gone\n").quota()));
  const Root root("nonsense\n0::/\n");
  root.put("sys/fs/cgroup/cpu.max", "many\n");
  CHECK(std::isinf(root.quota()) && root.cores() >= 1);
  root.put("sys/fs/cgroup/cpu.max", "100000 0\n");
  CHECK(std::isinf(root.quota()));
}

}  // namespace

int main() { return check::run_tests(); }
