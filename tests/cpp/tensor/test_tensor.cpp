#include <cstdint>
#include <limits>
#include <utility>

#include "check.hpp"
#include "gemlet/error.hpp"
#include "tensor/buffer.hpp"
#include "tensor/tensor.hpp"

namespace {

using namespace gemlet;

}  // namespace

TEST("bytes of rows and tensors of every type") {
  struct Case {
    DType type;
    const char* name;
    std::size_t row_bytes;  // of 512 elements
  };
  for (const Case& c : {Case{DType::f32, "F32", 2048},           Case{DType::f16, "F16", 1024},
                        Case{DType::bf16, "BF16", 1024},         Case{DType::q1_0, "Q1_0", 4 * 18},
                        Case{DType::q4_0, "Q4_0", 16 * 18},      Case{DType::q4_1, "Q4_1", 16 * 20},
                        Case{DType::q5_0, "Q5_0", 16 * 22},      Case{DType::q5_1, "Q5_1", 16 * 24},
                        Case{DType::q8_0, "Q8_0", 16 * 34},      Case{DType::q2_k, "Q2_K", 2 * 84},
                        Case{DType::q3_k, "Q3_K", 2 * 110},      Case{DType::q4_k, "Q4_K", 2 * 144},
                        Case{DType::q5_k, "Q5_K", 2 * 176},      Case{DType::q6_k, "Q6_K", 2 * 210},
                        Case{DType::iq1_s, "IQ1_S", 2 * 50},     Case{DType::iq1_m, "IQ1_M", 2 * 56},
                        Case{DType::iq2_xxs, "IQ2_XXS", 2 * 66}, Case{DType::iq2_xs, "IQ2_XS", 2 * 74},
                        Case{DType::iq2_s, "IQ2_S", 2 * 82},     Case{DType::iq3_xxs, "IQ3_XXS", 2 * 98},
                        Case{DType::iq3_s, "IQ3_S", 2 * 110},    Case{DType::iq4_nl, "IQ4_NL", 16 * 18},
                        Case{DType::iq4_xs, "IQ4_XS", 2 * 136},  Case{DType::tq1_0, "TQ1_0", 2 * 54},
                        Case{DType::tq2_0, "TQ2_0", 2 * 66},     Case{DType::mxfp4, "MXFP4", 16 * 17},
                        Case{DType::nvfp4, "NVFP4", 8 * 36}}) {
    const Tensor tensor{.name = "t", .type = c.type, .shape = {3, 512, 1, 1}, .rank = 2};
    CHECK(traits(c.type).name == std::string(c.name));
    CHECK(find_dtype(static_cast<std::uint32_t>(c.type)) == &traits(c.type));
    CHECK(tensor.row_bytes() == c.row_bytes);
    CHECK(tensor.bytes() == 3 * c.row_bytes);
    const std::byte* data = reinterpret_cast<const std::byte*>(&tensor);
    const Matrix matrix = Matrix::packed(data, c.type, 3, 512);
    CHECK(matrix.row_bytes == c.row_bytes);
    CHECK(matrix.row(2) == data + 2 * c.row_bytes);
    const Matrix part = matrix.first_rows(2).first_cols(256);
    CHECK(part.rows == 2 && part.cols == 256 && part.row(1) == data + c.row_bytes);
  }
}

TEST("shapes") {
  const Tensor matrix{.name = "m", .shape = {2048, 256, 1, 1}, .rank = 2};
  CHECK(matrix.cols() == 256);
  CHECK(matrix.elements() == 2048 * 256);
  CHECK(matrix.shape_string() == "[2048, 256]");
  const Tensor vector{.name = "v", .shape = {7, 1, 1, 1}, .rank = 1};
  CHECK(vector.cols() == 7);
  CHECK(vector.shape_string() == "[7]");
  const Tensor none;
  CHECK(none.cols() == 0);
  CHECK(none.elements() == 0);
  CHECK(none.bytes() == 0);
  CHECK(none.shape_string() == "[]");
}

TEST("a buffer is aligned and zero") {
  for (const std::size_t bytes : {1, 63, 4096, 1 << 20}) {
    const Buffer buffer(bytes);
    CHECK(buffer.size() == bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(buffer.as<char>()) % 64 == 0);
    for (std::size_t i = 0; i < bytes; ++i) CHECK(buffer.as<char>()[i] == 0);
  }
}

TEST("an empty buffer owns nothing") {
  CHECK(Buffer().as<char>() == nullptr);
  CHECK(Buffer(0).as<char>() == nullptr);
  CHECK(Buffer(0).size() == 0);
}

TEST("a buffer moves") {
  Buffer a(100);
  a.as<int>()[3] = 42;
  const Buffer b = std::move(a);
  CHECK(b.size() == 100);
  CHECK(b.as<int>()[3] == 42);
}

TEST("a buffer that nobody can have is an error") {
  const std::size_t bytes = std::numeric_limits<std::size_t>::max() / 2;
  try {
    const Buffer buffer(bytes);
    CHECK(false);
  } catch (const Error& error) {
    CHECK(error.kind() == Error::Kind::memory);
    CHECK(std::string(error.what()).find(std::to_string(bytes)) != std::string::npos);
  }
}

int main() { return check::run_tests(); }
