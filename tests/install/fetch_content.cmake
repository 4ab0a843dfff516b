# FetchContent gives the same targets as the installed package, and leaves the outer project's settings and installation
# alone. Configured only: its library is this build's once more.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

file(WRITE ${WORK}/CMakeLists.txt [[
cmake_minimum_required(VERSION 3.24)
project(outer LANGUAGES C CXX)
set(CMAKE_CXX_STANDARD 17)
include(FetchContent)
FetchContent_Declare(gemlet SOURCE_DIR ${GEMLET_SOURCE})
FetchContent_MakeAvailable(gemlet)
add_executable(c ${GEMLET_SOURCE}/examples/c/chat.c)
target_link_libraries(c PRIVATE gemlet::gemlet)
add_executable(cpp ${GEMLET_SOURCE}/examples/cpp/chat.cpp)
target_link_libraries(cpp PRIVATE gemlet::cpp)
if(NOT CMAKE_CXX_STANDARD EQUAL 17 OR TARGET test_capi OR TARGET _core)
  message(FATAL_ERROR "gemlet changed the outer project")
endif()
]])
run(out ${CMAKE_COMMAND} -S ${WORK} -B ${WORK}/build -G ${GENERATOR} -DGEMLET_SOURCE=${SOURCE}
    -DCMAKE_C_COMPILER=${CC} -DCMAKE_CXX_COMPILER=${CXX})
run(out ${CMAKE_COMMAND} --install ${WORK}/build --prefix ${WORK}/prefix)
file(GLOB_RECURSE files ${WORK}/prefix/*)
if(files)
  message(FATAL_ERROR "expected nothing of gemlet to be installed with the outer project, found\n${files}")
endif()
