#pragma once

#include_next <immintrin.h>
#include <simde/x86/avx512/dpbusd.h>

// Stands before the compiler's header when the VNNI tables are built for CPUs without VNNI: SIMD Everywhere computes
// vpdpbusd by AVX2 (apt-get install libsimde-dev).
#define _mm256_dpbusd_avx_epi32 simde_mm256_dpbusd_epi32
#define _mm256_dpbusd_epi32 simde_mm256_dpbusd_epi32
