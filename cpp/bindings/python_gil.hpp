#pragma once

#include <pybind11/pybind11.h>

// The global interpreter lock (GIL). A thread that wants it back while Python ends is ended by CPython before 3.14: its
// stack is unwound, through destructors too that let no exception out, which aborts the process. These guards let such
// a thread sleep instead until the process has ended, as CPython 3.14 does.
namespace gemlet {

/// Whether Python is taking itself down, or has.
bool python_is_ending();

/// Until the process ends.
[[noreturn]] void sleep_for_ever();

/// Without the GIL as long as it lives.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil();
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

/// With the GIL as long as it lives, on any thread.
class WithGil {
 public:
  WithGil();
  ~WithGil() { PyGILState_Release(state_); }
  WithGil(const WithGil&) = delete;
  WithGil& operator=(const WithGil&) = delete;

 private:
  PyGILState_STATE state_;
};

}  // namespace gemlet
