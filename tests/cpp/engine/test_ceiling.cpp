#include <string>

#include "check.hpp"
#include "engine/ceiling.hpp"
#include "gemlet/error.hpp"

namespace {

using gemlet::Ceiling;
using gemlet::DType;
using gemlet::Error;

constexpr std::size_t buffer_bytes = 1 << 22;

}  // namespace

TEST("every rate of every type is measured") {
  Ceiling ceiling("", 2, buffer_bytes);
  CHECK(ceiling.threads() == 2);
  for (const double rate : {ceiling.read_bandwidth(), ceiling.multiply_adds_of_bytes(),
                            ceiling.multiply_adds_of_half_bytes(), ceiling.multiply_adds_of_floats()}) {
    CHECK(rate > 1e6 && rate < 1e15);
  }
  const std::vector<DType> types = ceiling.types();
  CHECK(types.size() == 27);
  for (const DType type : types) {
    CHECK(ceiling.one_token(type) > 1e6);
    CHECK(ceiling.many_tokens(type) > 1e6);
  }
}

TEST("the default is a thread for each core, and the best kernels") {
  const Ceiling ceiling("", 0, buffer_bytes);
  CHECK(ceiling.threads() >= 1);
  CHECK(ceiling.kernels() == std::string(gemlet::kernels::best().name));
}

TEST("a table that is not there, or a buffer of nothing, is refused") {
  CHECK(check::throws<Error>([] { Ceiling("sse9", 1, buffer_bytes); }).find("sse9") != std::string::npos);
  CHECK(check::throws<Error>([] { Ceiling("", 1, 1000); }).find("1000") != std::string::npos);
}

int main() { return check::run_tests(); }
