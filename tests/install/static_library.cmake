# The examples with the static library: programs that need no libgemlet.so.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

file(WRITE ${WORK}/CMakeLists.txt [[
cmake_minimum_required(VERSION 3.24)
project(linked_statically LANGUAGES C CXX)
find_package(gemlet 0.1 REQUIRED)
add_executable(chat_c ${EXAMPLES}/c/chat.c)
target_link_libraries(chat_c PRIVATE gemlet::gemlet_static)
add_executable(media_c ${EXAMPLES}/c/media.c)
target_link_libraries(media_c PRIVATE gemlet::gemlet_static)
add_executable(chat_cpp ${EXAMPLES}/cpp/chat.cpp)
target_link_libraries(chat_cpp PRIVATE gemlet::cpp_static)
]])
run(out ${CMAKE_COMMAND} -S ${WORK} -B ${WORK}/build -G ${GENERATOR} -DEXAMPLES=${SOURCE}/examples
    -DCMAKE_PREFIX_PATH=${PREFIX} -DCMAKE_C_COMPILER=${CC} -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_BUILD_TYPE=Release)
run(out ${CMAKE_COMMAND} --build ${WORK}/build --config Release)
talk(${WORK}/build/chat_c)
talk(${WORK}/build/chat_cpp)
see(${WORK}/build/media_c)
foreach(program IN ITEMS chat_c chat_cpp media_c)
  file(GET_RUNTIME_DEPENDENCIES EXECUTABLES ${WORK}/build/${program} RESOLVED_DEPENDENCIES_VAR found
       UNRESOLVED_DEPENDENCIES_VAR missing)
  if("${found};${missing}" MATCHES "libgemlet")
    message(FATAL_ERROR "${program} needs the shared library: ${found};${missing}")
  endif()
endforeach()
