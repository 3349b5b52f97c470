# The CUDA backend: the same stems as ops/, in cuda/.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90a)
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
file(GLOB WEFT_CUDA_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/*.cu)
target_sources(weft PRIVATE ${WEFT_CUDA_SOURCES})
target_compile_definitions(weft PUBLIC WEFT_CUDA)
target_link_libraries(weft PRIVATE CUDA::cudart_static CUDA::cublasLt CUDA::cufft)
set_target_properties(weft PROPERTIES CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}")
# The standard is given as a flag: CMake before 3.26 does not know that this compiler has C++20.
# 20012-20015: host-only functions that a __host__ __device__ template could call but does not.
target_compile_options(weft PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20 --expt-relaxed-constexpr --extended-lambda -diag-suppress=20012,20013,20014,20015>)
