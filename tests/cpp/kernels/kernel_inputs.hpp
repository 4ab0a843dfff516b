#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "kernels/kernels.hpp"
#include "kernels/tables.hpp"

// What the kernel tests share: the tables that this CPU runs, random and hostile inputs, comparisons.
namespace kernel_inputs {

using gemlet::DType;
using gemlet::kernels::Kernels;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

template <typename F>
void for_each_table(const F& f) {
  const Kernels* const* tables = nullptr;
  const std::size_t count = gemlet::kernels::available(&tables);
  for (std::size_t i = 0; i < count; ++i) f(*tables[i]);
#if defined(GEMLET_EMULATED_VNNI)
  if (count == 1) return;  // the emulation is by AVX2
  f(gemlet::kernels::avx_vnni());
  f(gemlet::kernels::avx512_vnni());
#endif
}

/// Every number from a seed of its own, so that a failure repeats on every platform.
class Random {
 public:
  explicit Random(std::uint32_t seed) : engine_(seed) {}

  std::uint32_t bits() { return static_cast<std::uint32_t>(engine_()); }
  std::size_t below(std::size_t n) { return bits() % n; }
  float uniform() { return static_cast<float>(bits() >> 8) * 0x1p-24F; }  // [0, 1)
  float symmetric(float bound) { return bound * (2 * uniform() - 1); }    // [-bound, bound)
  float normal() { return symmetric(1) + symmetric(1) + symmetric(1); }   // variance 1, nearly normal
  float any_magnitude() { return symmetric(2) * std::exp2(symmetric(20)); }

 private:
  std::mt19937 engine_;
};

inline std::vector<float> normals(Random& random, std::size_t n) {
  std::vector<float> x(n);
  for (float& v : x) v = random.normal();
  return x;
}

/// Zeros of both signs, denormals, tiny, ordinary, large: all finite, squares and short sums too.
inline std::vector<float> mixed(Random& random, std::size_t n) {
  std::vector<float> x(n);
  for (float& v : x) {
    switch (random.below(8)) {
      case 0:
        v = 0;
        break;
      case 1:
        v = -0.0F;
        break;
      case 2:
        v = std::bit_cast<float>(random.bits() & 0x807FFFFFU);
        break;
      case 3:
        v = random.any_magnitude();
        break;
      default:
        v = random.normal();
    }
  }
  return x;
}

inline bool same_bits(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// |a - b| <= relative * |b| + absolute, or both NaN, or equal infinities.
inline bool close(float a, float b, float relative, float absolute) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return a == b || std::fabs(a - b) <= relative * std::fabs(b) + absolute;
}

inline void check_close(const std::string& what, const std::vector<float>& actual, const std::vector<float>& expected,
                        float relative, float absolute) {
  check::that(actual.size() == expected.size(), what + ": sizes differ");
  for (std::size_t i = 0; i < actual.size(); ++i) {
    check::that(close(actual[i], expected[i], relative, absolute), what + " [" + std::to_string(i) +
                                                                       "]: " + std::to_string(actual[i]) +
                                                                       ", expected " + std::to_string(expected[i]));
  }
}

}  // namespace kernel_inputs
