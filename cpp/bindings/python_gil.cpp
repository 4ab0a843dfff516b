#include "bindings/python_gil.hpp"

#include <unistd.h>

namespace gemlet {

bool python_is_ending() {
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsInitialized() == 0 || Py_IsFinalizing() != 0;
#else
  return Py_IsInitialized() == 0 || _Py_IsFinalizing() != 0;
#endif
}

void sleep_for_ever() {
  while (true) pause();
}

WithoutGil::~WithoutGil() {
  try {
    PyEval_RestoreThread(state_);
  } catch (...) {  // not an exception: CPython unwinds the stack of a thread that it ends
    sleep_for_ever();
  }
}

WithGil::WithGil() {
  if (PyGILState_GetThisThreadState() == nullptr && python_is_ending()) sleep_for_ever();
  try {
    state_ = PyGILState_Ensure();
  } catch (...) {  // likewise
    sleep_for_ever();
  }
}

}  // namespace gemlet
