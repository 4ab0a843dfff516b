#include <bit>
#include <cassert>
#include <cstring>

#include "kernels/dequantize.hpp"
#include "kernels/half.hpp"
#include "kernels/iq_grids.hpp"

// The types that choose their weights from grids, as codes and scales. Eight codes are one 64-bit number.
namespace gemlet::kernels {
namespace {

static_assert(std::endian::native == std::endian::little, "byte j of a grid's vector is weight j");

constexpr std::uint64_t ones = 0x0101010101010101U;

// `bytes` with those negated whose bit of `signs` is set. None is zero, so that no carry leaves a byte.
std::uint64_t negate(std::uint64_t bytes, unsigned signs) {
  const std::uint64_t bits = (signs * ones) & 0x8040201008040201U;   // bit j in byte j
  const std::uint64_t chosen = ((bits + 0x7FU * ones) >> 7) & ones;  // 1 in the bytes to negate
  return (bytes ^ chosen * 0xFFU) + chosen;
}

// Seven signs and the eighth that makes their number even.
unsigned even_signs(unsigned signs) {
  signs &= 127U;
  return signs | (static_cast<unsigned>(std::popcount(signs)) & 1U) << 7;
}

void store(DecodedBlock* out, std::size_t eighth, std::uint64_t bytes) {  // of 32 weights each
  std::memcpy(out[eighth / 4].q + 8 * (eighth % 4), &bytes, sizeof(bytes));
}

std::uint64_t two(std::uint32_t first, std::uint32_t second) { return first | std::uint64_t{second} << 32; }

// 8 * (w +- 1/8) of eight weights of IQ1_S or IQ1_M. The grid has 8 * w + 8, so that 7 or 9 are to be subtracted:
// above 128 without a borrow, and 128 taken away by its bit.
std::uint64_t iq1_codes(std::size_t place, bool minus) {
  return (iq1_grid[place] + (minus ? 0x77U * ones : 0x79U * ones)) ^ (0x80U * ones);
}

std::uint32_t load_32(const void* p) {
  std::uint32_t x;
  std::memcpy(&x, p, sizeof(x));
  return x;
}

int nibble(const std::uint8_t* packed, std::size_t i) { return (packed[i / 2] >> (4 * (i % 2))) & 15; }

}  // namespace

void decode_iq1_s(const void* row, DecodedBlock* out, std::size_t n) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const BlockIQ1_S*>(row);
  for (const DecodedBlock* end = out + n / 32; out != end; out += 8, ++block) {
    const float d = half_to_float(block->d) * 0.125F;
    for (std::size_t b = 0; b < 8; ++b) {
      const unsigned high = block->high[b];
      out[b].scales[0] = out[b].scales[1] = d * static_cast<float>(2 * ((high >> 12) & 7U) + 1);
      for (std::size_t i = 0; i < 4; ++i) {
        const std::size_t place = block->low[4 * b + i] | ((high >> (3 * i)) & 7U) << 8;
        store(out, 4 * b + i, iq1_codes(place, (high & 0x8000U) != 0));
      }
    }
  }
}

void decode_iq1_m(const void* row, DecodedBlock* out, std::size_t n) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const BlockIQ1_M*>(row);
  for (const DecodedBlock* end = out + n / 32; out != end; out += 8, ++block) {
    unsigned bits = 0;
    for (std::size_t i = 0; i < 4; ++i) bits |= (block->scales[i] >> 12U) << (4 * i);
    const float d = half_to_float(static_cast<std::uint16_t>(bits)) * 0.125F;
    for (std::size_t i = 0; i < 16; ++i) {
      const unsigned scale = (block->scales[i / 4] >> (3 * (i % 4))) & 7U;
      out[i / 2].scales[i % 2] = d * static_cast<float>(2 * scale + 1);
    }
    for (std::size_t i = 0; i < 32; ++i) {
      const int high = nibble(block->high, i);
      store(out, i, iq1_codes(block->low[i] | static_cast<std::size_t>(high & 7) << 8, (high & 8) != 0));
    }
  }
}

void decode_iq2_xxs(const void* row, DecodedBlock* out, std::size_t n) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const BlockIQ2_XXS*>(row);
  for (const DecodedBlock* end = out + n / 32; out != end; out += 8, ++block) {
    const float d = half_to_float(block->d) * 0.125F;
    for (std::size_t b = 0; b < 8; ++b) {
      const std::uint32_t places = load_32(block->codes + 4 * b);
      const std::uint32_t signs = load_32(block->codes + 4 * b + 2);
      out[b].scales[0] = out[b].scales[1] = d * static_cast<float>(2 * (signs >> 28) + 1);
      for (std::size_t i = 0; i < 4; ++i) {
        store(out, 4 * b + i, negate(iq2_xxs_grid[(places >> (8 * i)) & 255U], even_signs(signs >> (7 * i))));
      }
    }
  }
}

void decode_iq2_xs(const void* row, DecodedBlock* out, std::size_t n) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const BlockIQ2_XS*>(row);
  for (const DecodedBlock* end = out + n / 32; out != end; out += 8, ++block) {
    const float d = half_to_float(block->d) * 0.125F;
    for (std::size_t i = 0; i < 16; ++i) {
      out[i / 2].scales[i % 2] = d * static_cast<float>(2 * nibble(block->scales, i) + 1);
    }
    for (std::size_t i = 0; i < 32; ++i) {
      const unsigned code = block->codes[i];
      store(out, i, negate(iq2_xs_grid[code & 511U], even_signs(code >> 9)));
    }
  }
}

void decode_iq2_s(const void* row, DecodedBlock* out, std::size_t n) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const BlockIQ2_S*>(row);
  for (const DecodedBlock* end = out + n / 32; out != end; out += 8, ++block) {
    const float d = half_to_float(block->d) * 0.125F;
    for (std::size_t i = 0; i < 16; ++i) {
      out[i / 2].scales[i % 2] = d * static_cast<float>(2 * nibble(block->scales, i) + 1);
    }
    for (std::size_t i = 0; i < 32; ++i) {
      const unsigned high = (block->high[i / 4] >> (2 * (i % 4))) & 3U;
      store(out, i, negate(iq2_s_grid[block->low[i] | high << 8], block->signs[i]));
    }
  }
}

void decode_iq3_xxs(const void* row, DecodedBlock* out, std::size_t n) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const BlockIQ3_XXS*>(row);
  for (const DecodedBlock* end = out + n / 32; out != end; out += 8, ++block) {
    const float d = half_to_float(block->d) * 0.25F;
    for (std::size_t b = 0; b < 8; ++b) {
      const std::uint32_t signs = load_32(block->signs + 2 * b);
      out[b].scales[0] = out[b].scales[1] = d * static_cast<float>(2 * (signs >> 28) + 1);
      for (std::size_t i = 0; i < 4; ++i) {
        const std::uint8_t* places = block->places + 8 * b + 2 * i;
        const std::uint64_t grid = two(iq3_xxs_grid[places[0]], iq3_xxs_grid[places[1]]);
        store(out, 4 * b + i, negate(grid, even_signs(signs >> (7 * i))));
      }
    }
  }
}

void decode_iq3_s(const void* row, DecodedBlock* out, std::size_t n) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const BlockIQ3_S*>(row);
  for (const DecodedBlock* end = out + n / 32; out != end; out += 8, ++block) {
    const float d = half_to_float(block->d);
    for (std::size_t b = 0; b < 8; ++b) {
      out[b].scales[0] = out[b].scales[1] = d * static_cast<float>(1 + 2 * nibble(block->scales, b));
      for (std::size_t i = 0; i < 4; ++i) {
        const std::uint8_t* low = block->low + 8 * b + 2 * i;
        const unsigned high = block->high[b] >> (2 * i);
        const std::uint64_t grid = two(iq3_s_grid[low[0] | (high & 1U) << 8], iq3_s_grid[low[1] | (high & 2U) << 7]);
        store(out, 4 * b + i, negate(grid, block->signs[4 * b + i]));
      }
    }
  }
}

}  // namespace gemlet::kernels
