// Compiles gemm_kernels.inc for each instruction set and picks one at run time. The target pragmas do it inside one
// file, so that no compiler flag is needed and no inline function leaks into code for older processors.
#include <weft/cpu/gemm_kernels.h>

#include <array>
#include <cstddef>
#include <utility>

#if defined(__x86_64__) && defined(__GNUC__)
#define WEFT_X86_KERNELS 1
#endif

#ifdef WEFT_X86_KERNELS

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#define WEFT_ISA avx512
#define WEFT_ISA_BYTES 64
#define WEFT_ISA_ROWS 12
#define WEFT_ISA_VECTORS 2
#include "gemm_kernels.inc"
#undef WEFT_ISA
#undef WEFT_ISA_BYTES
#undef WEFT_ISA_ROWS
#undef WEFT_ISA_VECTORS
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define WEFT_ISA avx2
#define WEFT_ISA_BYTES 32
#define WEFT_ISA_ROWS 6
#define WEFT_ISA_VECTORS 2
#include "gemm_kernels.inc"
#undef WEFT_ISA
#undef WEFT_ISA_BYTES
#undef WEFT_ISA_ROWS
#undef WEFT_ISA_VECTORS
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // WEFT_X86_KERNELS

// 16-byte vectors: SSE2 on x86-64, NEON on ARM, whatever the compiler makes of them elsewhere.
#define WEFT_ISA plain
#define WEFT_ISA_BYTES 16
#define WEFT_ISA_ROWS 4
#define WEFT_ISA_VECTORS 2
#include "gemm_kernels.inc"

namespace weft::cpu {

template <class T>
int gemm_kernel_sets(const GemmKernels<T>* sets[3], const char* names[3]) {
  int count = 0;
  const auto add = [&](const GemmKernels<T>& set, const char* name) {
    sets[count] = &set;
    names[count++] = name;
  };
#ifdef WEFT_X86_KERNELS
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    add(avx512::kernels<T>, "avx512");
  }
  if (avx2) add(avx2::kernels<T>, "avx2");
#endif
  add(plain::kernels<T>, "plain");
  return count;
}

template <class T>
const GemmKernels<T>& gemm_kernels() {
  static const GemmKernels<T>& best = [&]() -> const GemmKernels<T>& {
    const GemmKernels<T>* sets[3];
    const char* names[3];
    gemm_kernel_sets<T>(sets, names);
    return *sets[0];
  }();
  return best;
}

template int gemm_kernel_sets<float>(const GemmKernels<float>* [3], const char* [3]);
template int gemm_kernel_sets<double>(const GemmKernels<double>* [3], const char* [3]);
template const GemmKernels<float>& gemm_kernels<float>();
template const GemmKernels<double>& gemm_kernels<double>();

}  // namespace weft::cpu
