# The symbols that the shared library exports: exactly those of the C interface, one for each of its declarations, and
# the C++ interface's, nothing of what lies inside.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

file(STRINGS ${SOURCE}/cpp/include/gemlet/gemlet.h abi REGEX "^#define GEMLET_ABI_VERSION 1$")
if(NOT abi)
  message(FATAL_ERROR "the ABI version is not 1, or not defined as it was")
endif()
file(GLOB_RECURSE library ${PREFIX}/*/libgemlet.so.1)
if(NOT library)
  message(FATAL_ERROR "expected libgemlet.so.1 below ${PREFIX}")
endif()

run(out ${NM} -D -C --defined-only --with-symbol-versions ${library})
string(REGEX MATCHALL "[^\n]+" lines "${out}")
set(c_symbols)
foreach(line IN LISTS lines)
  if(line MATCHES " T (gemlet_[a-z_]+)@@GEMLET_1$")
    list(APPEND c_symbols ${CMAKE_MATCH_1})
  elseif(line MATCHES " A GEMLET_(1|CPP_[0-9.]+)(@@.*)?$")
  elseif(NOT line MATCHES "@@GEMLET_CPP_[0-9.]+$" OR NOT line MATCHES " [TVW] [^(]*gemlet::" OR line MATCHES "::Impl::")
    message(FATAL_ERROR "exported, but of neither interface: ${line}")
  endif()
endforeach()

file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/symbols.txt expected REGEX "^gemlet_")
list(SORT c_symbols)
list(SORT expected)
if(NOT c_symbols STREQUAL expected)
  message(FATAL_ERROR "symbols.txt states\n${expected}\nthe library exports\n${c_symbols}")
endif()
foreach(symbol IN ITEMS gemlet::Engine::load gemlet::Session::fork gemlet::generate gemlet::Scheduler::submit
                        gemlet::Encoders::encode gemlet::SoundStream::feed
                        "typeinfo for gemlet::Error")
  expect("${out}" "${symbol}")
endforeach()
