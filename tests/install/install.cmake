# Installs the build to one place and moves it to another, where everything must still be found.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

file(REMOVE_RECURSE ${PREFIX} ${PREFIX}-before)
run(out ${CMAKE_COMMAND} --install ${BUILD} --prefix ${PREFIX}-before --config ${CONFIG})
file(RENAME ${PREFIX}-before ${PREFIX})

file(GLOB_RECURSE files RELATIVE ${PREFIX} ${PREFIX}/*)
foreach(name IN ITEMS gemlet.h gemlet.hpp media.hpp error.hpp export.h work.hpp)
  if(NOT "include/gemlet/${name}" IN_LIST files)
    message(FATAL_ERROR "expected include/gemlet/${name} among\n${files}")
  endif()
endforeach()

# Nothing names the place of the build, of the sources or of the first installation.
file(GLOB_RECURSE texts ${PREFIX}/*.cmake ${PREFIX}/*.pc ${PREFIX}/include/*)
foreach(file IN LISTS texts)
  file(READ ${file} text)
  foreach(place IN ITEMS ${BUILD} ${SOURCE} ${PREFIX}-before)
    string(FIND "${text}" "${place}" at)
    if(NOT at EQUAL -1)
      message(FATAL_ERROR "${file} names ${place}")
    endif()
  endforeach()
endforeach()
