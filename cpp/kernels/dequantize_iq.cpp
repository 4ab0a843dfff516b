#include <array>
#include <bit>
#include <cassert>
#include <cstring>

#include "kernels/dequantize.hpp"
#include "kernels/half.hpp"
#include "kernels/iq_grids.hpp"

// The types that choose their weights from grids, eight codes a 64-bit number, and TQ1_0.
namespace gemlet::kernels {
namespace {

static_assert(std::endian::native == std::endian::little, "byte j of a grid's vector is weight j");

// 32 weights: w[i] = scales[i / 16] * q[i], exactly.
struct Decoded {
  std::int8_t q[32];
  float scales[2];
};

constexpr std::uint64_t ones = 0x0101010101010101U;

// All bits of byte j for bit j of the place.
constexpr auto byte_masks = [] {
  std::array<std::uint64_t, 256> masks{};
  for (unsigned signs = 0; signs < 256; ++signs) {
    for (unsigned j = 0; j < 8; ++j) masks[signs] |= ((signs >> j) & 1U) * (std::uint64_t{255} << (8 * j));
  }
  return masks;
}();

// Seven signs with the eighth that makes their number even.
constexpr auto even_signs = [] {
  std::array<std::uint8_t, 128> all{};
  for (unsigned signs = 0; signs < 128; ++signs) {
    all[signs] = static_cast<std::uint8_t>(signs | (static_cast<unsigned>(std::popcount(signs)) & 1U) << 7);
  }
  return all;
}();

// `bytes` with those negated whose bit of `signs` is set. None is zero, so that no carry leaves a byte.
std::uint64_t negate(std::uint64_t bytes, std::uint8_t signs) {
  const std::uint64_t mask = byte_masks[signs];
  return (bytes ^ mask) + (mask & ones);
}

void store(Decoded* out, std::size_t eighth, std::uint64_t bytes) {  // of 32 weights each
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

void decode_iq1_s(const BlockIQ1_S& block, Decoded* out) {
  const float d = half_to_float(block.d) * 0.125F;
  for (std::size_t b = 0; b < 8; ++b) {
    const unsigned high = block.high[b];
    out[b].scales[0] = out[b].scales[1] = d * static_cast<float>(2 * ((high >> 12) & 7U) + 1);
    for (std::size_t i = 0; i < 4; ++i) {
      const std::size_t place = block.low[4 * b + i] | ((high >> (3 * i)) & 7U) << 8;
      store(out, 4 * b + i, iq1_codes(place, (high & 0x8000U) != 0));
    }
  }
}

void decode_iq1_m(const BlockIQ1_M& block, Decoded* out) {
  unsigned bits = 0;
  for (std::size_t i = 0; i < 4; ++i) bits |= (block.scales[i] >> 12U) << (4 * i);
  const float d = half_to_float(static_cast<std::uint16_t>(bits)) * 0.125F;
  for (std::size_t i = 0; i < 16; ++i) {
    const unsigned scale = (block.scales[i / 4] >> (3 * (i % 4))) & 7U;
    out[i / 2].scales[i % 2] = d * static_cast<float>(2 * scale + 1);
  }
  for (std::size_t i = 0; i < 32; ++i) {
    const int high = nibble(block.high, i);
    store(out, i, iq1_codes(block.low[i] | static_cast<std::size_t>(high & 7) << 8, (high & 8) != 0));
  }
}

void decode_iq2_xxs(const BlockIQ2_XXS& block, Decoded* out) {
  const float d = half_to_float(block.d) * 0.125F;
  for (std::size_t b = 0; b < 8; ++b) {
    const std::uint32_t places = load_32(block.codes + 4 * b);
    const std::uint32_t signs = load_32(block.codes + 4 * b + 2);
    out[b].scales[0] = out[b].scales[1] = d * static_cast<float>(2 * (signs >> 28) + 1);
    for (std::size_t i = 0; i < 4; ++i) {
      store(out, 4 * b + i, negate(iq2_xxs_grid[(places >> (8 * i)) & 255U], even_signs[(signs >> (7 * i)) & 127U]));
    }
  }
}

void decode_iq2_xs(const BlockIQ2_XS& block, Decoded* out) {
  const float d = half_to_float(block.d) * 0.125F;
  for (std::size_t i = 0; i < 16; ++i) {
    out[i / 2].scales[i % 2] = d * static_cast<float>(2 * nibble(block.scales, i) + 1);
  }
  for (std::size_t i = 0; i < 32; ++i) {
    const unsigned code = block.codes[i];
    store(out, i, negate(iq2_xs_grid[code & 511U], even_signs[code >> 9]));
  }
}

void decode_iq2_s(const BlockIQ2_S& block, Decoded* out) {
  const float d = half_to_float(block.d) * 0.125F;
  for (std::size_t i = 0; i < 16; ++i) {
    out[i / 2].scales[i % 2] = d * static_cast<float>(2 * nibble(block.scales, i) + 1);
  }
  for (std::size_t i = 0; i < 32; ++i) {
    const unsigned high = (block.high[i / 4] >> (2 * (i % 4))) & 3U;
    store(out, i, negate(iq2_s_grid[block.low[i] | high << 8], block.signs[i]));
  }
}

void decode_iq3_xxs(const BlockIQ3_XXS& block, Decoded* out) {
  const float d = half_to_float(block.d) * 0.25F;
  for (std::size_t b = 0; b < 8; ++b) {
    const std::uint32_t signs = load_32(block.signs + 2 * b);
    out[b].scales[0] = out[b].scales[1] = d * static_cast<float>(2 * (signs >> 28) + 1);
    for (std::size_t i = 0; i < 4; ++i) {
      const std::uint8_t* places = block.places + 8 * b + 2 * i;
      const std::uint64_t grid = two(iq3_xxs_grid[places[0]], iq3_xxs_grid[places[1]]);
      store(out, 4 * b + i, negate(grid, even_signs[(signs >> (7 * i)) & 127U]));
    }
  }
}

void decode_iq3_s(const BlockIQ3_S& block, Decoded* out) {
  const float d = half_to_float(block.d);
  for (std::size_t b = 0; b < 8; ++b) {
    out[b].scales[0] = out[b].scales[1] = d * static_cast<float>(1 + 2 * nibble(block.scales, b));
    for (std::size_t i = 0; i < 4; ++i) {
      const std::uint8_t* low = block.low + 8 * b + 2 * i;
      const unsigned high = block.high[b] >> (2 * i);
      const std::uint64_t grid = two(iq3_s_grid[low[0] | (high & 1U) << 8], iq3_s_grid[low[1] | (high & 2U) << 7]);
      store(out, 4 * b + i, negate(grid, block.signs[4 * b + i]));
    }
  }
}

void decode_tq1_0(const BlockTQ1_0& block, Decoded* out) {
  constexpr std::uint8_t powers[] = {1, 3, 9, 27, 81};
  // A byte is a fraction of 256: times 3^k, what is left of its integer part is digit k and those after it.
  const auto digit = [](std::uint8_t byte, std::uint8_t power) {
    return static_cast<std::int8_t>((static_cast<std::uint8_t>(byte * power) * 3 >> 8) - 1);
  };
  std::int8_t q[256];
  for (std::size_t k = 0; k < 5; ++k) {
    for (std::size_t i = 0; i < 32; ++i) q[32 * k + i] = digit(block.digits[i], powers[k]);
    for (std::size_t i = 0; i < 16; ++i) q[160 + 16 * k + i] = digit(block.digits[32 + i], powers[k]);
  }
  for (std::size_t k = 0; k < 4; ++k) {
    for (std::size_t i = 0; i < 4; ++i) q[240 + 4 * k + i] = digit(block.last[i], powers[k]);
  }
  for (std::size_t b = 0; b < 8; ++b) {
    out[b].scales[0] = out[b].scales[1] = half_to_float(block.d);
    std::memcpy(out[b].q, q + 32 * b, sizeof(out[b].q));
  }
}

template <typename Block>
void dequantize(const void* row, float* out, std::size_t n, void (*decode)(const Block&, Decoded*)) {
  assert(n % 256 == 0);
  const auto* block = static_cast<const Block*>(row);
  for (const float* end = out + n; out != end; out += 256, ++block) {
    Decoded decoded[8];
    decode(*block, decoded);
    for (std::size_t i = 0; i < 256; ++i) {
      const Decoded& part = decoded[i / 32];
      out[i] = part.scales[i % 32 / 16] * static_cast<float>(part.q[i % 32]);
    }
  }
}

}  // namespace

void dequantize_iq1_s(const void* row, float* out, std::size_t n) { dequantize(row, out, n, decode_iq1_s); }
void dequantize_iq1_m(const void* row, float* out, std::size_t n) { dequantize(row, out, n, decode_iq1_m); }
void dequantize_iq2_xxs(const void* row, float* out, std::size_t n) { dequantize(row, out, n, decode_iq2_xxs); }
void dequantize_iq2_xs(const void* row, float* out, std::size_t n) { dequantize(row, out, n, decode_iq2_xs); }
void dequantize_iq2_s(const void* row, float* out, std::size_t n) { dequantize(row, out, n, decode_iq2_s); }
void dequantize_iq3_xxs(const void* row, float* out, std::size_t n) { dequantize(row, out, n, decode_iq3_xxs); }
void dequantize_iq3_s(const void* row, float* out, std::size_t n) { dequantize(row, out, n, decode_iq3_s); }
void dequantize_tq1_0(const void* row, float* out, std::size_t n) { dequantize(row, out, n, decode_tq1_0); }

}  // namespace gemlet::kernels
