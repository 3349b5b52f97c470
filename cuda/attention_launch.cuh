// The host's side of attention's kernels for half types: which of the compiled kernels runs, and how it is launched.
#pragma once

#include <weft/cuda/attention_problem.cuh>

namespace weft::cuda::attention {

/// kernel<<<grid, threads, bytes>>>(args...), with as much shared memory as asked for.
template <class... Params, class... Args>
void launch_shared(void (*kernel)(Params...), dim3 grid, int threads, int bytes, Args&&... args) {
  if (grid.x == 0 || grid.y == 0) return;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "attention");
  kernel<<<grid, threads, bytes, stream()>>>(std::forward<Args>(args)...);
  check_cuda(cudaGetLastError(), "attention");
}

/// Whether nothing but position decides what a query sees, and weights are a softmax's, and head sizes are size.
inline bool plain(const Problem& p, int size) {
  return !p.mask.data.data && !p.bias.data.data && !p.alibi && p.dropout == 0 && p.fn == AttentionFn::softmax &&
         p.scale > 0 && p.d == size && p.dv_size == size;
}

}  // namespace weft::cuda::attention
