#pragma once

#include <cstdint>

// The block layouts of GGUF's quantised types (ggml-common.h) and of our own activations. `d` and `dmin` are IEEE
// half-precision bits. w[i] is the value that a block stands for.
namespace gemlet::kernels {

struct BlockQ4_0 {  // 32 weights, w[i] = d * (nibble[i] - 8); low nibbles are i = 0..15, high nibbles i = 16..31
  std::uint16_t d;
  std::uint8_t nibbles[16];
};

struct BlockQ8_0 {  // 32 weights, w[i] = d * q[i]
  std::uint16_t d;
  std::int8_t q[32];
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

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ8_0) == 34);
static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);

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
