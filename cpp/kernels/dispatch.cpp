#include <array>

#include "kernels/tables.hpp"

#if defined(GEMLET_HAS_AVX2)
#include <cpuid.h>
#endif
#if defined(GEMLET_HAS_NEON) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace gemlet::kernels {
namespace {

struct Tables {
  std::array<const Kernels*, 4> list{};
  std::size_t count = 0;

  void add(const Kernels& table) { list[count++] = &table; }
};

#if defined(GEMLET_HAS_NEON)
bool has_dotprod() {
#if defined(__linux__)
  constexpr unsigned long hwcap_asimddp = 1UL << 20;  // asm/hwcap.h; older headers lack the name
  return (getauxval(AT_HWCAP) & hwcap_asimddp) != 0;
#else
  return false;
#endif
}
#endif

#if defined(GEMLET_HAS_AVX2)
// __builtin_cpu_supports("f16c") does not compile with clang before 16.
bool has_f16c() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

Tables probe() {
  Tables tables;
#if defined(GEMLET_HAS_AVX2)
  // "avx2" is reported only where the operating system saves the wide registers too.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) {
    tables.add(avx2());
  }
#endif
#if defined(GEMLET_HAS_NEON)
  if (has_dotprod()) tables.add(neon_dotprod());
  tables.add(neon());
#endif
  tables.add(scalar());
  return tables;
}

const Tables& tables() {
  static const Tables probed = probe();
  return probed;
}

}  // namespace

const Kernels& best() noexcept { return *tables().list[0]; }

std::size_t available(const Kernels* const** list) noexcept {
  *list = tables().list.data();
  return tables().count;
}

}  // namespace gemlet::kernels
