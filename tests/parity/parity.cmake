# weft_parity, the runner of recorded cases, and what the unit tests share with it.
add_library(weft_parity_cases STATIC parity/run_case.cpp parity/float32_softmax.cpp parity/systems.cpp parity/systems_flash.cpp parity/systems_gpt2.cpp
            parity/systems_xt_layers.cpp parity/systems_xt_wrappers.cpp parity/xt_arguments.cpp ${PROJECT_SOURCE_DIR}/examples/gpt2/gpt2.cpp)
target_include_directories(weft_parity_cases PRIVATE ${PROJECT_SOURCE_DIR}/examples)
target_link_libraries(weft_parity_cases PUBLIC weft::weft)
target_include_directories(weft_parity_cases SYSTEM PUBLIC $<TARGET_PROPERTY:nlohmann_json::nlohmann_json,INTERFACE_INCLUDE_DIRECTORIES>)
weft_compile_options(weft_parity_cases)
target_compile_options(weft_parity_cases PRIVATE -O1)

add_executable(weft_parity parity/runner.cpp)
target_link_libraries(weft_parity PRIVATE weft_parity_cases)
weft_compile_options(weft_parity)
target_link_libraries(weft_tests PRIVATE weft_parity_cases)

file(GLOB WEFT_PARITY_CASES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/parity/cases/*/*.safetensors)
add_test(NAME parity COMMAND weft_parity ${WEFT_PARITY_CASES})
add_test(NAME parity_float32 COMMAND weft_parity --dtype float32 ${WEFT_PARITY_CASES})
# Cases that a rounding of bfloat16 moves further than its bound lie in folders called ..._exact.
list(FILTER WEFT_PARITY_CASES EXCLUDE REGEX "_exact/")
add_test(NAME parity_bfloat16 COMMAND weft_parity --dtype bfloat16 ${WEFT_PARITY_CASES})
