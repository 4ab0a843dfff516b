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
  set(DType::q4_0, {"Q4_0", 32, sizeof(BlockQ4_0)});
  set(DType::q8_0, {"Q8_0", 32, sizeof(BlockQ8_0)});
  set(DType::q4_k, {"Q4_K", 256, sizeof(BlockQ4_K)});
  set(DType::q5_k, {"Q5_K", 256, sizeof(BlockQ5_K)});
  set(DType::q6_k, {"Q6_K", 256, sizeof(BlockQ6_K)});
  return t;
}();

}  // namespace

const DTypeTraits* find_dtype(std::uint32_t ggml_type) noexcept {
  return ggml_type < table.size() && table[ggml_type].name != nullptr ? &table[ggml_type] : nullptr;
}

const DTypeTraits& traits(DType type) noexcept { return table[static_cast<std::size_t>(type)]; }

}  // namespace gemlet
