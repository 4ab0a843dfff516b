#include "kernels/avx.hpp"
#include "kernels/simd_table.hpp"
#include "kernels/tables.hpp"
#include "kernels/vnni.hpp"

// AVX2 and AVX-VNNI. Compiled with flags of its own: see simd_float.hpp on what must not be defined here.
namespace gemlet::kernels {
namespace {

struct Instruction {
  static __m256i multiply_add(__m256i sums, __m256i codes, __m256i q) {
    return _mm256_dpbusd_avx_epi32(sums, codes, q);
  }
};

}  // namespace

const Kernels& avx_vnni() noexcept {
  static const Kernels table = simd::make_table<simd::Avx<simd::VnniDot<Instruction>>>("avx_vnni");
  return table;
}

}  // namespace gemlet::kernels
