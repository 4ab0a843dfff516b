#pragma once

#include "kernels/kernels.hpp"

// The tables of single instruction sets, each defined where the target processor family can have it. Only dispatch.cpp
// may hand them out, after it has asked the CPU.
namespace gemlet::kernels {

const Kernels& avx2() noexcept;
const Kernels& avx_vnni() noexcept;
const Kernels& avx512_vnni() noexcept;
const Kernels& neon() noexcept;
const Kernels& neon_dotprod() noexcept;
const Kernels& neon_i8mm() noexcept;

}  // namespace gemlet::kernels
