#include "kernels/iq_grids.hpp"

#include <cstddef>

namespace gemlet::kernels {
namespace {

#include "kernels/iq_grids.inc"

// Each `bits` of a packed vector choose one of the values.
template <typename Vector, unsigned bits, std::size_t n, std::size_t count>
constexpr std::array<Vector, n> unpack(const std::uint16_t (&packed)[n], const std::uint8_t (&values)[count]) {
  static_assert(bits * sizeof(Vector) == 16 && count <= 1U << bits);
  std::array<Vector, n> grid{};
  for (std::size_t i = 0; i < n; ++i) {
    for (unsigned j = 0; j < sizeof(Vector); ++j) {
      const unsigned code = (packed[i] >> (bits * j)) & ((1U << bits) - 1U);
      grid[i] |= static_cast<Vector>(values[code]) << (8 * j);
    }
  }
  return grid;
}

constexpr std::uint8_t iq1_values[] = {0, 8, 16};
constexpr std::uint8_t iq2_values[] = {8, 25, 43};
constexpr std::uint8_t iq3_xxs_values[] = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr std::uint8_t iq3_s_values[] = {1, 3, 5, 7, 9, 11, 13, 15};

}  // namespace

constinit const std::array<std::uint64_t, 2048> iq1_grid = unpack<std::uint64_t, 2>(packed_iq1_s, iq1_values);
constinit const std::array<std::uint64_t, 256> iq2_xxs_grid = unpack<std::uint64_t, 2>(packed_iq2_xxs, iq2_values);
constinit const std::array<std::uint64_t, 512> iq2_xs_grid = unpack<std::uint64_t, 2>(packed_iq2_xs, iq2_values);
constinit const std::array<std::uint64_t, 1024> iq2_s_grid = unpack<std::uint64_t, 2>(packed_iq2_s, iq2_values);
constinit const std::array<std::uint32_t, 256> iq3_xxs_grid = unpack<std::uint32_t, 4>(packed_iq3_xxs, iq3_xxs_values);
constinit const std::array<std::uint32_t, 512> iq3_s_grid = unpack<std::uint32_t, 4>(packed_iq3_s, iq3_s_values);

}  // namespace gemlet::kernels
