// Sums and extremes over a warp or a block of kThreads threads, always in the same order.
#pragma once

#include <weft/cuda/common.cuh>

#include <limits>

namespace weft::cuda {

/// f over the v of a warp's lanes; all of them get the result. In each step two lanes combine the same two values, so
/// that f, which must not care for their order, gives both the same bits.
template <class C, class F>
__device__ C warp_reduce(C v, F f) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) v = f(v, __shfl_xor_sync(~0u, v, step));
  return v;
}

/// f over every thread's v in a block of `threads`; all threads get the result. part: shared memory for at least a
/// value a warp, which may be used again for the next call.
template <int threads = kThreads, class C, class F>
__device__ C block_reduce(C v, C* part, F f) {
  constexpr int warps = threads / 32;
  v = warp_reduce(v, f);
  __syncthreads();  // part has been read by those before
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  v = part[threadIdx.x % warps];
#pragma unroll
  for (int step = warps / 2; step > 0; step /= 2) v = f(v, __shfl_xor_sync(~0u, v, step));
  return v;
}
template <int threads = kThreads, class C>
__device__ C block_sum(C v, C* part) {
  return block_reduce<threads>(v, part, [](C a, C b) { return a + b; });
}
template <int threads = kThreads, class C>
__device__ C block_max(C v, C* part) {
  return block_reduce<threads>(v, part, [](C a, C b) { return a > b ? a : b; });
}

/// A block a row: kernel<<<...>>> with the rows dealt out in turn.
template <class... Params, class... Args>
void launch_rows(const char* op, int64_t rows, void (*kernel)(Params...), Args&&... args) {
  if (rows == 0) return;
  kernel<<<static_cast<int>(std::min<int64_t>(rows, 132 * 64)), kThreads, 0, stream()>>>(std::forward<Args>(args)...);
  check_cuda(cudaGetLastError(), op);
}

#define WEFT_ROW_LOOP(row, rows) for (int64_t row = blockIdx.x; row < (rows); row += gridDim.x)
#define WEFT_THREAD_LOOP(i, n) for (int64_t i = threadIdx.x; i < (n); i += kThreads)

template <class C>
__device__ constexpr C minus_infinity() {
  return -std::numeric_limits<C>::infinity();
}

}  // namespace weft::cuda
