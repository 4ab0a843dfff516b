# The examples by pkg-config and a compiler alone.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

file(GLOB_RECURSE pc ${PREFIX}/*/gemlet.pc)
cmake_path(GET pc PARENT_PATH pc_dir)
cmake_path(GET pc_dir PARENT_PATH lib_dir)
set(ENV{PKG_CONFIG_PATH} ${pc_dir})
set(ENV{PKG_CONFIG_ALLOW_SYSTEM_CFLAGS} 1)
set(ENV{LD_LIBRARY_PATH} ${lib_dir})
run(flags ${PKG_CONFIG} --cflags --libs gemlet)
separate_arguments(flags UNIX_COMMAND "${flags}")

run(out ${CC} -std=c11 -Wall -Wextra -Werror ${SOURCE}/examples/c/chat.c -o ${WORK}/chat_c ${flags})
talk(${WORK}/chat_c)
run(out ${CC} -std=c11 -Wall -Wextra -Werror ${SOURCE}/examples/c/media.c -o ${WORK}/media_c ${flags})
see(${WORK}/media_c)
run(out ${CXX} -std=c++20 -Wall -Wextra -Werror ${SOURCE}/examples/cpp/chat.cpp -o ${WORK}/chat_cpp ${flags})
talk(${WORK}/chat_cpp)
