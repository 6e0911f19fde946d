# The two functions every folder of agent/ and tests/unit/ is built with.
#
# kveil_library(NAME [DEPENDS folder...] [PUBLIC_LIBRARIES lib...] [LIBRARIES lib...])
#   One static library `kveil_NAME` from agent/NAME/*.cc. DEPENDS names the folders below it that it may include; the
#   headers of any other folder are not on its include path, so an arrow that points up does not compile. A room of a
#   folder, `guard/seal`, is a library of its own with the name kveil_guard_seal.
#   LIBRARIES stay private to the folder; PUBLIC_LIBRARIES appear in its headers.
#
# kveil_unit_test(NAME [LIBRARIES lib...] [COST seconds] [SHARDS n] [WAITS])
#   One GoogleTest program `NAME_test` from tests/unit/NAME/*_test.cc, label `unit`; a room's, `guard/state`, is
#   `guard_state_test`. ctest starts those of the highest COST first, so that no long one is left over at the end; one
#   that takes long is run as SHARDS tests, `unit/NAME/1` and so on, each with its part of the cases. One that WAITS most
#   of its time takes half of a processor, the others take a whole one: scripts/test has ctest count in halves.

option(KVEIL_UNITY "Compile several files of a folder's tests as one, in half of the time" ON)
option(KVEIL_PRECOMPILE "Read the headers that most of agent/ includes once for all of it" ON)
add_library(kveil_headers OBJECT cmake/agent_headers.cc)
target_link_libraries(kveil_headers PRIVATE absl::statusor absl::flat_hash_map absl::flat_hash_set absl::strings absl::span)
target_precompile_headers(kveil_headers PRIVATE cmake/agent_headers.h)

set(KVEIL_INCLUDE_ROOT "${CMAKE_BINARY_DIR}/include")

function(kveil_library FOLDER)
  cmake_parse_arguments(ARG "" "" "DEPENDS;PUBLIC_LIBRARIES;LIBRARIES" ${ARGN})
  string(REPLACE "/" "_" NAME "${FOLDER}")
  file(GLOB_RECURSE SOURCES CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/agent/${FOLDER}/*.cc")
  # Each folder is seen through a directory of its own that holds nothing but a link to it.
  cmake_path(GET FOLDER PARENT_PATH PARENT)
  file(MAKE_DIRECTORY "${KVEIL_INCLUDE_ROOT}/${NAME}/${PARENT}")
  file(CREATE_LINK "${CMAKE_SOURCE_DIR}/agent/${FOLDER}" "${KVEIL_INCLUDE_ROOT}/${NAME}/${FOLDER}" SYMBOLIC)
  list(TRANSFORM ARG_DEPENDS REPLACE "/" "_")
  list(TRANSFORM ARG_DEPENDS PREPEND kveil_)
  if(NOT SOURCES)  # headers only
    add_library(kveil_${NAME} INTERFACE)
    target_include_directories(kveil_${NAME} INTERFACE "${KVEIL_INCLUDE_ROOT}/${NAME}")
    target_link_libraries(kveil_${NAME} INTERFACE ${ARG_DEPENDS} ${ARG_PUBLIC_LIBRARIES})
    return()
  endif()
  add_library(kveil_${NAME} STATIC ${SOURCES})
  target_include_directories(kveil_${NAME} PUBLIC "${KVEIL_INCLUDE_ROOT}/${NAME}")
  target_link_libraries(kveil_${NAME} PUBLIC ${ARG_DEPENDS} ${ARG_PUBLIC_LIBRARIES} PRIVATE ${ARG_LIBRARIES})
  if(KVEIL_PRECOMPILE)
    target_precompile_headers(kveil_${NAME} REUSE_FROM kveil_headers)
  endif()
endfunction()

# For tests that read the repository's files. A header and not a definition, so that ccache knows the others' objects, and their
# precompiled header, in every clone.
file(CONFIGURE OUTPUT "${CMAKE_BINARY_DIR}/generated/source_dir.h" CONTENT "#define KVEIL_SOURCE_DIR \"${CMAKE_SOURCE_DIR}\"\n")

# A precompiled header is of use only where these are the same.
function(kveil_test_options TARGET)
  set_target_properties(${TARGET} PROPERTIES UNITY_BUILD ${KVEIL_UNITY} UNITY_BUILD_BATCH_SIZE 6)
  target_include_directories(${TARGET} PRIVATE "${CMAKE_BINARY_DIR}/generated")
  target_compile_options(${TARGET} PRIVATE -O0)  # compiles in half of the time; agent/ stays as it is
  if(KVEIL_SANITIZE)
    # A third of the time that a test takes to compile, for what the tests' own code does. Agent/ is looked at, and the
    # fuzzers look at what is inline in its headers. No fuzzer needs to know where a test goes.
    target_compile_options(${TARGET} PRIVATE -fno-sanitize=undefined $<$<BOOL:${KVEIL_FUZZ}>:-fno-sanitize=fuzzer-no-link>)
  endif()
endfunction()

function(kveil_unit_test FOLDER)
  cmake_parse_arguments(ARG "WAITS" "COST;SHARDS" "LIBRARIES" ${ARGN})
  file(GLOB SOURCES CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/unit/${FOLDER}/*.cc")
  string(REPLACE "/" "_" NAME "${FOLDER}")
  if(NOT SOURCES)
    return()
  endif()
  add_executable(${NAME}_test ${SOURCES})
  target_link_libraries(${NAME}_test PRIVATE kveil_${NAME} ${ARG_LIBRARIES} GTest::gmock GTest::gtest_main)
  kveil_test_options(${NAME}_test)
  target_precompile_headers(${NAME}_test REUSE_FROM kveil_test_headers)
  if(NOT ARG_SHARDS)
    set(ARG_SHARDS 1)
  endif()
  set(HALVES 2)
  if(ARG_WAITS)
    set(HALVES 1)
  endif()
  foreach(SHARD RANGE 1 ${ARG_SHARDS})
    set(TEST unit/${NAME})
    if(ARG_SHARDS GREATER 1)
      string(APPEND TEST "/${SHARD}")
    endif()
    math(EXPR INDEX "${SHARD} - 1")
    add_test(NAME ${TEST} COMMAND ${NAME}_test)
    set_tests_properties(${TEST} PROPERTIES LABELS unit TIMEOUT 300 COST "${ARG_COST}" PROCESSORS ${HALVES}
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${ARG_SHARDS};GTEST_SHARD_INDEX=${INDEX};LD_BIND_NOW=1")  # as agent/main.cc has it
  endforeach()
endfunction()
