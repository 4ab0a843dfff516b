# What `cmake --install` writes: headers, libraries, a CMake package (find_package(gemlet)) and a pkg-config file. All of
# them find one another from where they lie, so that the prefix may be moved.
include(CMakePackageConfigHelpers)

set(targets gemlet gemlet_cpp)
if(GEMLET_BUILD_STATIC)
  list(APPEND targets gemlet_static gemlet_cpp_static)
endif()
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/gemlet)

set_target_properties(gemlet_cpp PROPERTIES EXPORT_NAME cpp)
if(GEMLET_BUILD_STATIC)
  set_target_properties(gemlet_cpp_static PROPERTIES EXPORT_NAME cpp_static)
endif()
install(TARGETS ${targets} EXPORT gemlet)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/cpp/include/gemlet TYPE INCLUDE)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE TYPE DOC)
install(EXPORT gemlet NAMESPACE gemlet:: FILE gemletTargets.cmake DESTINATION ${package_dir})

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/gemletConfig.cmake.in ${PROJECT_BINARY_DIR}/gemletConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
# A release of 0.x may change the C++ interface of the one before.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/gemletConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/gemletConfig.cmake ${PROJECT_BINARY_DIR}/gemletConfigVersion.cmake
        DESTINATION ${package_dir})

# The folders relative to the one that the .pc file lies in; absolute ones stay what they are.
cmake_path(SET pc_dir NORMALIZE ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig)
foreach(folder IN ITEMS LIBDIR INCLUDEDIR)
  cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_${folder} BASE_DIRECTORY ${pc_dir} OUTPUT_VARIABLE pc_${folder})
endforeach()
set(pc_private_libs -pthread -lm)
foreach(library IN LISTS CMAKE_CXX_IMPLICIT_LINK_LIBRARIES)
  if(library MATCHES "^(stdc\\+\\+|c\\+\\+)$")
    list(APPEND pc_private_libs -l${library})
  endif()
endforeach()
list(JOIN pc_private_libs " " pc_private_libs)
configure_file(${CMAKE_CURRENT_LIST_DIR}/gemlet.pc.in ${PROJECT_BINARY_DIR}/gemlet.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/gemlet.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
