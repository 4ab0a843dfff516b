#include <array>

#include "kernels/tables.hpp"

#if defined(GEMLET_HAS_AVX)
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
void add_neon_extensions([[maybe_unused]] Tables& tables) {
#if defined(__linux__)
  constexpr unsigned long hwcap_asimddp = 1UL << 20;  // asm/hwcap.h; older headers lack the names
  constexpr unsigned long hwcap2_i8mm = 1UL << 13;
  if ((getauxval(AT_HWCAP) & hwcap_asimddp) == 0) return;
  if ((getauxval(AT_HWCAP2) & hwcap2_i8mm) != 0) tables.add(neon_i8mm());
  tables.add(neon_dotprod());
#endif
}
#endif

#if defined(GEMLET_HAS_AVX)
// __builtin_cpu_supports("f16c") does not compile with clang before 16.
bool has_f16c() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

// Nor does "avxvnni".
bool has_avx_vnni() {
  constexpr unsigned avx_vnni = 1U << 4;
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & avx_vnni) != 0;
}

bool has_avx512_vnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
}
#endif

Tables probe() {
  Tables tables;
#if defined(GEMLET_HAS_AVX)
  // "avx2" and "avx512f" are reported only where the operating system saves their registers too.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) {
    if (has_avx512_vnni()) tables.add(avx512_vnni());
    if (has_avx_vnni()) tables.add(avx_vnni());
    tables.add(avx2());
  }
#endif
#if defined(GEMLET_HAS_NEON)
  add_neon_extensions(tables);
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
