#include "kernels/dtype.hpp"

#include <array>

#include "kernels/blocks.hpp"

namespace gemlet {
namespace {

using namespace kernels;

constexpr auto table = [] {
  std::array<DTypeTraits, dtype_table_size> t{};
  const auto set = [&t](DType type, DTypeTraits traits) { t[static_cast<std::size_t>(type)] = traits; };
  set(DType::f32, {"F32", 1, 4});
  set(DType::f16, {"F16", 1, 2});
  set(DType::bf16, {"BF16", 1, 2});
  set(DType::q1_0, {"Q1_0", 128, sizeof(BlockQ1_0)});
  set(DType::q4_0, {"Q4_0", 32, sizeof(BlockQ4_0)});
  set(DType::q4_1, {"Q4_1", 32, sizeof(BlockQ4_1)});
  set(DType::q5_0, {"Q5_0", 32, sizeof(BlockQ5_0)});
  set(DType::q5_1, {"Q5_1", 32, sizeof(BlockQ5_1)});
  set(DType::q8_0, {"Q8_0", 32, sizeof(BlockQ8_0)});
  set(DType::q2_k, {"Q2_K", 256, sizeof(BlockQ2_K)});
  set(DType::q3_k, {"Q3_K", 256, sizeof(BlockQ3_K)});
  set(DType::q4_k, {"Q4_K", 256, sizeof(BlockQ4_K)});
  set(DType::q5_k, {"Q5_K", 256, sizeof(BlockQ5_K)});
  set(DType::q6_k, {"Q6_K", 256, sizeof(BlockQ6_K)});
  set(DType::iq1_s, {"IQ1_S", 256, sizeof(BlockIQ1_S)});
  set(DType::iq1_m, {"IQ1_M", 256, sizeof(BlockIQ1_M)});
  set(DType::iq2_xxs, {"IQ2_XXS", 256, sizeof(BlockIQ2_XXS)});
  set(DType::iq2_xs, {"IQ2_XS", 256, sizeof(BlockIQ2_XS)});
  set(DType::iq2_s, {"IQ2_S", 256, sizeof(BlockIQ2_S)});
  set(DType::iq3_xxs, {"IQ3_XXS", 256, sizeof(BlockIQ3_XXS)});
  set(DType::iq3_s, {"IQ3_S", 256, sizeof(BlockIQ3_S)});
  set(DType::iq4_nl, {"IQ4_NL", 32, sizeof(BlockIQ4_NL)});
  set(DType::iq4_xs, {"IQ4_XS", 256, sizeof(BlockIQ4_XS)});
  set(DType::tq1_0, {"TQ1_0", 256, sizeof(BlockTQ1_0)});
  set(DType::tq2_0, {"TQ2_0", 256, sizeof(BlockTQ2_0)});
  set(DType::mxfp4, {"MXFP4", 32, sizeof(BlockMXFP4)});
  set(DType::nvfp4, {"NVFP4", 64, sizeof(BlockNVFP4)});
  return t;
}();

}  // namespace

const DTypeTraits* find_dtype(std::uint32_t ggml_type) noexcept {
  return ggml_type < table.size() && table[ggml_type].name != nullptr ? &table[ggml_type] : nullptr;
}

const DTypeTraits& traits(DType type) noexcept { return table[static_cast<std::size_t>(type)]; }

}  // namespace gemlet
