# The examples by find_package(gemlet).
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

foreach(language IN ITEMS c cpp)
  run(out ${CMAKE_COMMAND} -S ${SOURCE}/examples/${language} -B ${WORK}/${language} -G ${GENERATOR}
      -DCMAKE_PREFIX_PATH=${PREFIX} -DCMAKE_C_COMPILER=${CC} -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_BUILD_TYPE=Release)
  run(out ${CMAKE_COMMAND} --build ${WORK}/${language} --config Release)
  talk(${WORK}/${language}/chat)
endforeach()
see(${WORK}/c/media)
