#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "check.hpp"
#include "kernels/half.hpp"
#include "kernels/kernel_inputs.hpp"
#include "kernels/kernels.hpp"

namespace {

using namespace gemlet;
using namespace gemlet::kernels;
using namespace kernel_inputs;

#include "goldens/quantized.inc"

std::vector<float> floats(const std::uint32_t* bits, std::size_t n) {
  std::vector<float> x(n);
  std::memcpy(x.data(), bits, n * sizeof(float));
  return x;
}

std::vector<std::uint8_t> quantize(DType type, const std::vector<float>& x) {
  std::vector<std::uint8_t> row(x.size() / traits(type).elements * traits(type).bytes);
  find_quantizer(type)(x.data(), row.data(), x.size());
  return row;
}

std::vector<float> dequantize(const Kernels& k, DType type, const std::vector<std::uint8_t>& row) {
  std::vector<float> x(row.size() / traits(type).bytes * traits(type).elements);
  k.weights[static_cast<std::size_t>(type)].dequantize(row.data(), x.data(), x.size());
  return x;
}

void check_quantizer(DType type, const std::uint8_t* golden, std::size_t bytes) {
  const auto row = quantize(type, floats(inputs, std::size(inputs)));
  check::that(row.size() == bytes, traits(type).name + std::string(": size"));
  for (std::size_t i = 0; i < bytes; ++i) {
    check::that(row[i] == golden[i],
                traits(type).name + std::string(" differs from ggml at byte ") + std::to_string(i));
  }
}

void check_values(DType type, const std::uint8_t* blocks, std::size_t bytes, const std::uint32_t* golden,
                  std::size_t n) {
  for_each_table([&](const Kernels& k) {
    const auto values = dequantize(k, type, {blocks, blocks + bytes});
    check::that(same_bits(values, floats(golden, n)), k.name + std::string(": ") + traits(type).name);
  });
}

}  // namespace

TEST("quantisers give ggml's bits") {
  check_quantizer(DType::q4_0, q4_0_of_inputs, std::size(q4_0_of_inputs));
  check_quantizer(DType::q8_0, q8_0_of_inputs, std::size(q8_0_of_inputs));
  check_quantizer(DType::q6_k, q6_k_of_inputs, std::size(q6_k_of_inputs));
}

TEST("K-quant blocks have ggml's values") {
  check_values(DType::q4_k, q4_k_blocks, std::size(q4_k_blocks), q4_k_values, std::size(q4_k_values));
  check_values(DType::q5_k, q5_k_blocks, std::size(q5_k_blocks), q5_k_values, std::size(q5_k_values));
  check_values(DType::q6_k, q6_k_blocks, std::size(q6_k_blocks), q6_k_values, std::size(q6_k_values));
}

TEST("quantised values are as near as the type allows") {
  Random random(1);
  const auto x = normals(random, 4096);
  const auto error = [&](DType type) {
    const auto values = dequantize(scalar(), type, quantize(type, x));
    double squares = 0;
    for (std::size_t i = 0; i < x.size(); ++i) squares += std::pow(static_cast<double>(values[i] - x[i]), 2);
    return std::sqrt(squares / static_cast<double>(x.size()));
  };
  CHECK(error(DType::f32) == 0);
  CHECK(error(DType::f16) < 5e-4);
  CHECK(error(DType::bf16) < 4e-3);
  CHECK(error(DType::q8_0) < 0.008);  // step / sqrt(12), step = 2.5 / 127
  CHECK(error(DType::q6_k) < 0.03);
  CHECK(error(DType::q4_0) < 0.12);  // step = 2.5 / 8
}

TEST("types that are read but not written have no quantiser") {
  CHECK(find_quantizer(DType::q4_k) == nullptr);
  CHECK(find_quantizer(DType::q5_k) == nullptr);
}

TEST("a block with NaN or infinity surfaces") {
  for (const DType type : {DType::q4_0, DType::q8_0, DType::q6_k}) {
    for (const float bad : {not_a_number, infinity, -infinity}) {
      std::vector<float> x(512, 0.5F);
      x[300] = bad;
      const auto values = dequantize(scalar(), type, quantize(type, x));
      CHECK(std::isnan(values[300]));
      CHECK(std::fabs(values[0] - 0.5F) < 0.01F);  // the other blocks are whole
    }
  }
}

TEST("values too large for a half-precision scale surface") {
  for (const DType type : {DType::q4_0, DType::q8_0, DType::q6_k}) {
    const auto values = dequantize(scalar(), type, quantize(type, std::vector<float>(256, -3e38F)));
    for (const float v : values) CHECK(!std::isfinite(v));
  }
}

TEST("values too small for a half-precision scale vanish") {
  for (const DType type : {DType::q4_0, DType::q8_0, DType::q6_k}) {
    for (const float small : {1e-45F, 1e-40F, 1.2e-38F, 1e-30F}) {
      const auto values = dequantize(scalar(), type, quantize(type, std::vector<float>(256, small)));
      for (const float v : values) CHECK(v == 0);
    }
  }
}

TEST("every half converts to float and back") {
  for (std::uint32_t h = 0; h < 0x10000U; ++h) {
    const auto half = static_cast<std::uint16_t>(h);
    const float value = half_to_float(half);
    const int exponent = static_cast<int>((h >> 10) & 31U);
    const int mantissa = static_cast<int>(h & 1023U);
    if (exponent == 31) {
      CHECK(mantissa == 0 ? std::isinf(value) : std::isnan(value));
    } else {
      const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      CHECK(static_cast<double>(value) == ((h & 0x8000U) != 0 ? -magnitude : magnitude));
    }
    CHECK(std::signbit(value) == ((h & 0x8000U) != 0));
    const std::uint16_t quiet = exponent == 31 && mantissa != 0 ? 0x200 : 0;
    CHECK(float_to_half(value) == (half | quiet));
  }
}

TEST("float to half rounds to the nearest, ties to even") {
  for (std::uint32_t h = 0; h < 0x7C00U; ++h) {
    const double low = static_cast<double>(half_to_float(static_cast<std::uint16_t>(h)));
    const double high = h == 0x7BFFU ? 65536.0 : static_cast<double>(half_to_float(static_cast<std::uint16_t>(h + 1)));
    const auto middle = static_cast<float>((low + high) / 2);  // exact
    CHECK(float_to_half(middle) == ((h & 1U) != 0 ? h + 1 : h));
    CHECK(float_to_half(std::nextafter(middle, 0.0F)) == h);
    CHECK(float_to_half(-std::nextafter(middle, infinity)) == ((h + 1) | 0x8000U));
  }
  CHECK(float_to_half(infinity) == 0x7C00);
  CHECK(float_to_half(-1e30F) == 0xFC00);
  CHECK(float_to_half(1e-30F) == 0);
}

TEST("float to bfloat rounds to the nearest, ties to even") {
  CHECK(float_to_bfloat(1.0F) == 0x3F80);
  CHECK(float_to_bfloat(1.00390625F) == 0x3F80);  // half-way to the next, which is odd
  CHECK(float_to_bfloat(1.01171875F) == 0x3F82);
  CHECK(float_to_bfloat(std::nextafter(1.00390625F, 2.0F)) == 0x3F81);
  CHECK(float_to_bfloat(3.4e38F) == 0x7F80);
  CHECK(float_to_bfloat(-infinity) == 0xFF80);
  CHECK(std::isnan(bfloat_to_float(float_to_bfloat(std::bit_cast<float>(0x7F800001U)))));
  for (std::uint32_t b = 0; b < 0x10000U; ++b) {
    const float value = bfloat_to_float(static_cast<std::uint16_t>(b));
    CHECK(std::isnan(value) || float_to_bfloat(value) == b);
  }
}

int main() { return check::run_tests(); }
