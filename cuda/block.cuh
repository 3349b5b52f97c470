// Sums and extremes over a block of kThreads threads, always in the same order.
#pragma once

#include <weft/cuda/common.cuh>

namespace weft::cuda {

/// f over every thread's v; all threads get the result. part: shared memory for kThreads values.
template <class C, class F>
__device__ C block_reduce(C v, C* part, F f) {
  __syncthreads();
  part[threadIdx.x] = v;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) part[threadIdx.x] = f(part[threadIdx.x], part[threadIdx.x + half]);
    __syncthreads();
  }
  return part[0];
}
template <class C>
__device__ C block_sum(C v, C* part) {
  return block_reduce(v, part, [](C a, C b) { return a + b; });
}
template <class C>
__device__ C block_max(C v, C* part) {
  return block_reduce(v, part, [](C a, C b) { return a > b ? a : b; });
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
