#pragma once

#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// A test program: TEST bodies that CHECK; run_tests() runs them all, prints "N passed, N failed" and returns the exit
// code. Small enough to build for any target under an emulator, which is why it is not a library.
#include "gemlet/error.hpp"

namespace check {

/// The caller's place: std::source_location, which clang before 16 lacks.
struct Where {
  const char* file;
  int line;
  static Where current(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

struct Failure {
  std::string message;
};

inline std::vector<std::pair<const char*, std::function<void()>>>& tests() {
  static std::vector<std::pair<const char*, std::function<void()>>> all;
  return all;
}

struct Register {
  Register(const char* name, std::function<void()> body) { tests().emplace_back(name, std::move(body)); }
};

inline void that(bool condition, const std::string& message, Where where = Where::current()) {
  if (!condition) {
    throw Failure{std::string(where.file) + ":" + std::to_string(where.line) + ": " + message};
  }
}

/// The message of the exception that `body` must throw.
template <typename E>
std::string throws(const std::function<void()>& body, Where where = Where::current()) {
  try {
    body();
  } catch (const E& error) {
    return error.what();
  }
  that(false, "expected an exception", where);
  return {};
}

/// `body` must throw an Error of this kind whose message contains `part`.
inline void throws_error(const std::function<void()>& body, gemlet::Error::Kind kind, std::string_view part,
                         Where where = Where::current()) {
  try {
    body();
  } catch (const gemlet::Error& error) {
    that(error.kind() == kind, std::string("an error of another kind: ") + error.what(), where);
    that(std::string_view(error.what()).find(part) != std::string_view::npos,
         std::string("found \"") + error.what() + "\", expected \"" + std::string(part) + "\" in it", where);
    return;
  }
  that(false, "expected an Error", where);
}

inline int run_tests() {
  int failed = 0;
  for (const auto& [name, body] : tests()) {
    try {
      body();
      std::printf("ok    %s\n", name);
    } catch (const Failure& failure) {
      ++failed;
      std::printf("FAIL  %s: %s\n", name, failure.message.c_str());
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAIL  %s: unexpected exception: %s\n", name, error.what());
    }
  }
  std::printf("%zu passed, %d failed\n", tests().size() - static_cast<std::size_t>(failed), failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace check

#define CHECK_JOIN2(a, b) a##b
#define CHECK_JOIN(a, b) CHECK_JOIN2(a, b)
#define TEST(name)                                                                                 \
  static void CHECK_JOIN(test_, __LINE__)();                                                       \
  static const check::Register CHECK_JOIN(register_, __LINE__)(name, CHECK_JOIN(test_, __LINE__)); \
  static void CHECK_JOIN(test_, __LINE__)()
#define CHECK(condition) check::that((condition), #condition)
#define CHECK_THROWS(expression, kind, part) check::throws_error([&] { (void)(expression); }, (kind), (part))
