// Compiles fft_kernels.inc for each instruction set and picks one at run time. The target pragmas do it inside one
// file, so that no compiler flag is needed and no inline function leaks into code for older processors.
#include <weft/cpu/fft_kernels.h>

#include <algorithm>
#include <cstring>
#include <utility>

#if defined(__x86_64__) && defined(__GNUC__)
#define WEFT_X86_KERNELS 1
#include <immintrin.h>
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
#include "fft_kernels.inc"
#undef WEFT_ISA
#undef WEFT_ISA_BYTES
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
#include "fft_kernels.inc"
#undef WEFT_ISA
#undef WEFT_ISA_BYTES
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // WEFT_X86_KERNELS

// 16-byte vectors: SSE2 on x86-64, NEON on ARM, whatever the compiler makes of them elsewhere.
#define WEFT_ISA plain
#define WEFT_ISA_BYTES 16
#include "fft_kernels.inc"

namespace weft::cpu::fft {

template <class T>
int kernel_sets(const Kernels<T>* sets[3]) {
  int count = 0;
#ifdef WEFT_X86_KERNELS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl")) {
    sets[count++] = &avx512::kernels<T>;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets[count++] = &avx2::kernels<T>;
#endif
  sets[count++] = &plain::kernels<T>;
  return count;
}
template int kernel_sets(const Kernels<float>* [3]);
template int kernel_sets(const Kernels<double>* [3]);

}  // namespace weft::cpu::fft
