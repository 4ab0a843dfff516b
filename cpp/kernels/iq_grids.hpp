#pragma once

#include <array>
#include <cstdint>

// The grids of the IQ types: the vectors of weights that their codes choose from, byte j for weight j.
namespace gemlet::kernels {

extern const std::array<std::uint64_t, 2048> iq1_grid;  ///< of IQ1_S and IQ1_M: 8 * w + 8 for w of -1, 0 and 1
extern const std::array<std::uint64_t, 256> iq2_xxs_grid;
extern const std::array<std::uint64_t, 512> iq2_xs_grid;
extern const std::array<std::uint64_t, 1024> iq2_s_grid;
extern const std::array<std::uint32_t, 256> iq3_xxs_grid;
extern const std::array<std::uint32_t, 512> iq3_s_grid;

}  // namespace gemlet::kernels
