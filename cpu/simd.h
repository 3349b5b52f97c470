// Lets plain loops use the processor's widest vectors in a binary that still runs on older ones.
//
//   vectorized([&] {
//     for (int64_t i = begin; i < end; ++i) y[i] = vexp(x[i]);
//   });
//
// The body is compiled three times, for AVX-512, for AVX2 with FMA and for the target of the build, each time with all
// that it calls inlined and its loops vectorised for that target; which one runs is decided at run time by one
// predictable branch. Put the loops over a whole chunk inside, not single elements. Bits may differ between processors
// (fused multiply-adds), never between threads or runs.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)
#define WEFT_X86_TARGETS 1
#endif

namespace weft::cpu {

/// What the processor can do; `plain` is the target of the build.
enum class Isa { plain, avx2, avx512 };

inline Isa detect_isa() {
#ifdef WEFT_X86_TARGETS
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")
               ? Isa::avx512
               : Isa::avx2;
  }
#endif
  return Isa::plain;
}

#ifdef WEFT_X86_TARGETS
namespace detail {

#ifdef __clang__
#define WEFT_TARGET_AVX512 "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"
#else
#define WEFT_TARGET_AVX512 "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512"
#endif

template <class F>
[[gnu::target(WEFT_TARGET_AVX512), gnu::flatten, gnu::noinline]] void run_avx512(F& body) {
  body();
}
#undef WEFT_TARGET_AVX512

template <class F>
[[gnu::target("avx2,fma"), gnu::flatten, gnu::noinline]] void run_avx2(F& body) {
  body();
}

}  // namespace detail
#endif

template <class F>
void vectorized(F&& body) {
#ifdef WEFT_X86_TARGETS
  switch (detect_isa()) {
    case Isa::avx512:
      return detail::run_avx512(body);
    case Isa::avx2:
      return detail::run_avx2(body);
    case Isa::plain:
      break;
  }
#endif
  body();
}

}  // namespace weft::cpu
