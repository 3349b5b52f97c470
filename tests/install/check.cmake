# Installs the build into a folder of its own, then configures, builds and runs the consumer against it; with SUBDIRECTORY,
# against the source tree. Usage: cmake -DSOURCE=... -DBUILD=... -DWORK=... [-DSUBDIRECTORY=ON] -P check.cmake
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGV}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK}/prefix ${WORK}/build)
if(SUBDIRECTORY)  # a debug build: it takes a fraction of the time to compile
  run(${CMAKE_COMMAND} -S ${SOURCE}/tests/install -B ${WORK}/build -G Ninja -DCMAKE_BUILD_TYPE=Debug -DWEFT_SOURCE=${SOURCE})
else()
  run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
  run(${CMAKE_COMMAND} -S ${SOURCE}/tests/install -B ${WORK}/build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH=${WORK}/prefix)
endif()
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/consumer)
message(STATUS "consumer: ${output}")

# The program exports nothing of ours outside of the namespace, and needs none of the build's libraries.
if(NOT SUBDIRECTORY)
  file(GLOB_RECURSE libraries ${WORK}/prefix/*/libweft.a)
  run(nm -C --defined-only --extern-only ${libraries})
  string(REGEX MATCHALL "\n[0-9a-f]+ [TDBR] [^\n]*" strong "${output}")
  foreach(symbol IN LISTS strong)
    if(NOT symbol MATCHES " [TDBR] (vtable for |typeinfo for |typeinfo name for |non-virtual thunk to |guard variable for )?(weft::|std::|[^(]* weft::)")
      message(FATAL_ERROR "a symbol outside of the namespace: ${symbol}")
    endif()
  endforeach()
endif()
