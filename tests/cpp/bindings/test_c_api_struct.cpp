#include <cstdint>
#include <string>
#include <vector>

#include "bindings/c_api_struct.hpp"
#include "bindings/hyperparameter_text.hpp"
#include "check.hpp"

namespace {

using namespace gemlet;

// The same struct in three releases.
struct First {
  std::size_t struct_size;
  std::int64_t a;
};
struct Second {
  std::size_t struct_size;
  std::int64_t a;
  std::int64_t b;
};
struct Third {
  std::size_t struct_size;
  std::int64_t a;
  std::int64_t b;
  std::int64_t c;
};
constexpr StructKind kind{"thing", sizeof(First)};

TEST("a library reads an older struct") {
  const First older{sizeof(First), 5};
  const auto read = read_struct<Second>(&older, kind, Second{0, 1, 2});
  check::that(read.a == 5, "a field that the program set");
  check::that(read.b == 2, "the default of a field that its struct does not have");
}

TEST("a library reads a newer struct") {
  Third newer{sizeof(Third), 5, 6, 0};
  const auto read = read_struct<Second>(&newer, kind);
  check::that(read.a == 5 && read.b == 6, "the fields that both know");
  newer.c = 1;
  const std::string message = check::throws<Error>([&] { read_struct<Second>(&newer, kind); });
  check::that(message.find("thing: struct_size is 32, this library knows 24 bytes") == 0, message);
}

TEST("what is no size is refused before anything is read") {
  for (const std::size_t size : {std::size_t{0}, sizeof(First) - 1, most_struct_bytes + 1, ~std::size_t{0}}) {
    const std::string message = check::throws<Error>([&] { read_struct<Second>(&size, kind); });
    check::that(message.find("thing: struct_size is " + std::to_string(size) + ", expected 16 to 4096") == 0, message);
  }
}

TEST("a library writes no more than an older struct") {
  struct {
    First older;
    std::int64_t beyond;
  } memory{{sizeof(First), 0}, 7};
  write_struct(&memory.older, sizeof(First), Second{0, 5, 6});
  check::that(memory.older.struct_size == sizeof(First) && memory.older.a == 5, "the fields that both know");
  check::that(memory.beyond == 7, "what follows the struct");
}

TEST("a library clears what a newer struct has besides") {
  Third newer{sizeof(Third), 1, 2, 3};
  write_struct(&newer, sizeof(Third), Second{0, 5, 6});
  check::that(newer.struct_size == sizeof(Third) && newer.a == 5 && newer.b == 6, "the fields that both know");
  check::that(newer.c == 0, "the field that the library does not know");
}

TEST("hyperparameters are written as json") {
  check::that(hyperparameter_text(true) == "true", "bool");
  check::that(hyperparameter_text(std::int64_t{-3}) == "-3", "integer");
  check::that(hyperparameter_text(1e-6) == "1e-06", hyperparameter_text(1e-6));
  check::that(hyperparameter_text(0.1) == "0.1", "the shortest text of a number");
  check::that(hyperparameter_text(std::string("a \"b\"")) == "a \"b\"", "a string as it is");
  check::that(hyperparameter_text(std::vector<bool>{true, false}) == "[true, false]", "list of bools");
  check::that(hyperparameter_text(std::vector<std::int64_t>{}) == "[]", "empty list");
  const std::string strings = hyperparameter_text(std::vector<std::string>{"a\"\\", "b\n"});
  check::that(strings == R"(["a\"\\", "b\u000a"])", strings);
}

}  // namespace

int main() { return check::run_tests(); }
