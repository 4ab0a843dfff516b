#pragma once

#include <cstdint>

// The block layouts of GGUF's quantised types (ggml-common.h) and of our own activations. `d` and `dmin` are IEEE
// half-precision bits. w[i] is the value that a block stands for.
namespace gemlet::kernels {

struct BlockQ1_0 {  // 128 weights, w[i] = bit[i] ? d : -d
  std::uint16_t d;
  std::uint8_t bits[16];
};

struct BlockQ4_0 {  // 32 weights, w[i] = d * (nibble[i] - 8); low nibbles are i = 0..15, high nibbles i = 16..31
  std::uint16_t d;
  std::uint8_t nibbles[16];
};

struct BlockQ4_1 {  // 32 weights, w[i] = d * nibble[i] + m
  std::uint16_t d;
  std::uint16_t m;
  std::uint8_t nibbles[16];
};

struct BlockQ5_0 {  // 32 weights, w[i] = d * (code[i] - 16); bit i of `high` is the fifth bit of code i
  std::uint16_t d;
  std::uint8_t high[4];
  std::uint8_t nibbles[16];
};

struct BlockQ5_1 {  // 32 weights, w[i] = d * code[i] + m
  std::uint16_t d;
  std::uint16_t m;
  std::uint8_t high[4];
  std::uint8_t nibbles[16];
};

struct BlockQ8_0 {  // 32 weights, w[i] = d * q[i]
  std::uint16_t d;
  std::int8_t q[32];
};

struct BlockQ2_K {          // 256 weights in 16 sub-blocks of 16, w = d * scale * (2-bit code) - dmin * min
  std::uint8_t scales[16];  // low nibbles: scales, high nibbles: mins
  std::uint8_t codes[64];
  std::uint16_t d;
  std::uint16_t dmin;
};

struct BlockQ3_K {  // 256 weights in 16 sub-blocks of 16, w = d * (6-bit scale - 32) * (3-bit code - 4)
  std::uint8_t high[32];
  std::uint8_t low[64];
  std::uint8_t scales[12];
  std::uint16_t d;
};

struct BlockQ4_K {  // 256 weights in 8 sub-blocks of 32, w = d * scale * nibble - dmin * min; 6-bit scales and mins
  std::uint16_t d;
  std::uint16_t dmin;
  std::uint8_t scales[12];
  std::uint8_t nibbles[128];
};

struct BlockQ5_K {  // as Q4_K with a fifth bit from `high`
  std::uint16_t d;
  std::uint16_t dmin;
  std::uint8_t scales[12];
  std::uint8_t high[32];
  std::uint8_t nibbles[128];
};

struct BlockQ6_K {  // 256 weights in 16 sub-blocks of 16, w = d * scale * (6-bit code - 32)
  std::uint8_t low[128];
  std::uint8_t high[64];
  std::int8_t scales[16];
  std::uint16_t d;
};

// The IQ types choose their weights, 8 or 4 at a time, from a grid of the commonest vectors (iq_grids.hpp). The signs
// are a bit for each weight; where 7 bits serve 8 weights, the number of negative ones is even.

struct BlockIQ1_S {  // 256 weights in 8 sub-blocks of 32, w = d * (2 * scale + 1) * (grid +- 1/8)
  std::uint16_t d;
  std::uint8_t low[32];   // of the 11-bit places in the grid
  std::uint16_t high[8];  // for a sub-block: four times 3 bits of a place, 3 bits of scale, the sign of the 1/8
};

struct BlockIQ1_M {  // 256 weights in 16 sub-blocks of 16, w = d * (2 * scale + 1) * (grid +- 1/8)
  std::uint8_t low[32];
  std::uint8_t high[16];    // nibbles, for 8 weights: 3 bits of a place, the sign of the 1/8
  std::uint16_t scales[4];  // four times 3 bits of scale, and 4 bits of d
};

struct BlockIQ2_XXS {  // 256 weights in 8 sub-blocks of 32, w = d * (1/2 + scale) / 4 * sign * grid
  std::uint16_t d;
  std::uint16_t codes[32];  // for a sub-block: four 8-bit places in the grid, four times 7 signs, 4 bits of scale
};

struct BlockIQ2_XS {  // 256 weights in 16 sub-blocks of 16, w = d * (1/2 + scale) / 4 * sign * grid
  std::uint16_t d;
  std::uint16_t codes[32];  // 9 bits of place, 7 signs
  std::uint8_t scales[8];
};

struct BlockIQ2_S {  // as IQ2_XS
  std::uint16_t d;
  std::uint8_t low[32];  // of the 10-bit places in the grid
  std::uint8_t signs[32];
  std::uint8_t high[8];
  std::uint8_t scales[8];
};

struct BlockIQ3_XXS {  // 256 weights in 8 sub-blocks of 32, w = d * (1/2 + scale) / 2 * sign * grid
  std::uint16_t d;
  std::uint8_t places[64];
  std::uint16_t signs[16];  // for a sub-block: four times 7 signs, 4 bits of scale
};

struct BlockIQ3_S {  // 256 weights in 8 sub-blocks of 32, w = d * (1 + 2 * scale) * sign * grid
  std::uint16_t d;
  std::uint8_t low[64];  // of the 9-bit places in the grid
  std::uint8_t high[8];
  std::uint8_t signs[32];
  std::uint8_t scales[4];
};

struct BlockIQ4_NL {  // 32 weights, w[i] = d * iq4_values[nibble[i]]
  std::uint16_t d;
  std::uint8_t nibbles[16];
};

struct BlockIQ4_XS {  // 256 weights in 8 sub-blocks of 32, w = d * (6-bit scale - 32) * iq4_values[nibble]
  std::uint16_t d;
  std::uint16_t scales_high;
  std::uint8_t scales_low[4];
  std::uint8_t nibbles[128];
};

struct BlockTQ1_0 {  // 256 weights, w = d * (digit - 1); five digits of base 3 to a byte, four in the last bytes
  std::uint8_t digits[48];
  std::uint8_t last[4];
  std::uint16_t d;
};

struct BlockTQ2_0 {  // 256 weights, w = d * (2-bit code - 1)
  std::uint8_t codes[64];
  std::uint16_t d;
};

struct BlockMXFP4 {  // 32 weights, w[i] = 2^(exponent - 128) * fp4_values[nibble[i]]
  std::uint8_t exponent;
  std::uint8_t nibbles[16];
};

struct BlockNVFP4 {  // 64 weights in 4 sub-blocks of 16, w = scale / 2 * fp4_values[nibble]; scales are E4M3
  std::uint8_t scales[4];
  std::uint8_t nibbles[32];
};

static_assert(sizeof(BlockQ1_0) == 18 && sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34);
static_assert(sizeof(BlockQ2_K) == 84 && sizeof(BlockQ3_K) == 110);
static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);
static_assert(sizeof(BlockIQ1_S) == 50 && sizeof(BlockIQ1_M) == 56);
static_assert(sizeof(BlockIQ2_XXS) == 66 && sizeof(BlockIQ2_XS) == 74 && sizeof(BlockIQ2_S) == 82);
static_assert(sizeof(BlockIQ3_XXS) == 98 && sizeof(BlockIQ3_S) == 110);
static_assert(sizeof(BlockIQ4_NL) == 18 && sizeof(BlockIQ4_XS) == 136);
static_assert(sizeof(BlockTQ1_0) == 54 && sizeof(BlockTQ2_0) == 66);
static_assert(sizeof(BlockMXFP4) == 17 && sizeof(BlockNVFP4) == 36);

/// What the codes of IQ4_NL and IQ4_XS stand for.
inline constexpr std::int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};

/// Twice what the codes of MXFP4 and NVFP4 stand for: E2M1 floats.
inline constexpr std::int8_t fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/// 32 activations quantised to int8, x[i] ~ scale * q[i]. One format serves every quantised weight type: the K-quants
/// have sub-blocks of 32 or 16, so that a finer activation scale than ggml's Q8_K (one in 256) costs nothing. Weights
/// with an offset (Q4_0's 8, Q4_K's min, Q6_K's 32) need the sums only.
struct ActivationBlock {
  std::int8_t q[32];
  float scale;
  float sum;                  // scale * sum(q)
  std::int32_t minus_8_sum;   // -8 * sum(q)
  std::int16_t half_sums[2];  // sum(q[0..15]) and sum(q[16..31])
};
static_assert(sizeof(ActivationBlock) == 48);

}  // namespace gemlet::kernels
