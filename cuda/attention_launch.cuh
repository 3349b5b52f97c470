// The host's side of attention's kernels for half types: which of the compiled kernels runs, and how it is launched.
#pragma once

#include <weft/cuda/attention_problem.cuh>

namespace weft::cuda::attention {

// Of an H100: a guide for how work is dealt out. No result depends on the second; the first decides how many parts a
// long row of keys has.
inline constexpr int kProcessors = 132, kCacheBytes = 32 << 20;

/// kernel<<<grid, threads, bytes>>>(args...), with as much shared memory as asked for.
template <class... Params, class... Args>
void launch_shared(void (*kernel)(Params...), dim3 grid, int threads, int bytes, Args&&... args) {
  if (grid.x == 0 || grid.y == 0) return;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "attention");
  kernel<<<grid, threads, bytes, stream()>>>(std::forward<Args>(args)...);
  check_cuda(cudaGetLastError(), "attention");
}

inline Heads heads(const Tensor& x) {
  if (!x.defined()) return {};
  const Shape& s = x.strides();
  return {x.raw_data(), s[0], s[1], s[2]};
}

inline Scores scores(const Tensor& x) {
  if (!x.defined()) return {};
  const Shape& s = x.strides();
  return {data_of(x), s[0], s[1], s[2], s[3]};
}

/// What args say; the caller adds what is written to. Tensors must outlive the launches that read the problem.
inline Problem problem(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                       const AttentionArgs& args) {
  Problem p{};
  p.device = q.device();
  p.q = heads(q), p.k = heads(k), p.v = heads(v), p.mask = scores(mask), p.bias = scores(bias);
  p.sequences = static_cast<int>(args.sequences(q.shape()[0]));
  p.h = static_cast<int>(q.shape()[1]), p.hk = static_cast<int>(k.shape()[1]);
  p.n = static_cast<int>(q.shape()[2]), p.m = static_cast<int>(k.shape()[2]);
  p.d = static_cast<int>(q.shape()[3]), p.dv_size = static_cast<int>(v.shape()[3]);
  p.max_q = static_cast<int>(args.max_q), p.max_k = static_cast<int>(args.max_k);
  constexpr int64_t kFar = 1 << 29;
  p.left = static_cast<int>(std::min(args.left, kFar)), p.right = static_cast<int>(std::min(args.right, kFar));
  if (args.alibi.defined()) {
    p.alibi = static_cast<const float*>(args.alibi.raw_data());  // float64 has kernels of its own
    p.alibi_b = args.alibi.strides()[0], p.alibi_h = args.alibi.strides()[1];
  }
  if (args.kv_length.defined())
    p.kv_length = args.kv_length.data<int64_t>(), p.kv_length_b = args.kv_length.strides()[0];
  if (args.cu_q.defined()) p.cu_q = args.cu_q.data<int64_t>(), p.cu_k = args.cu_k.data<int64_t>();
  p.fn = args.fn;
  p.scale = static_cast<float>(args.scale), p.dropout = static_cast<float>(args.dropout);
  if (args.dropout > 0) p.random = philox_at(args.at);  // without dropout nothing is drawn from args.at
  return p;
}

/// Whether nothing but position decides what a query sees, and weights are a softmax's, and head sizes are size.
inline bool plain(const Problem& p, int size) {
  return !p.mask.data.data && !p.bias.data.data && !p.alibi && p.dropout == 0 && p.fn == AttentionFn::softmax &&
         p.scale > 0 && p.d == size && p.dv_size == size;
}

}  // namespace weft::cuda::attention
