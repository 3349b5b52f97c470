// What the forward and the backward kernel for Hopper share: which cases are theirs, sizes, and the way from a
// product's registers to memory.
#pragma once

#include <weft/cuda/attention_hopper.h>
#include <weft/cuda/hopper.cuh>

namespace weft::cuda::hopper {

/// Strides of a [b, h, n, d] tensor that is contiguous along d.
struct Strides {
  int64_t b, h, n;
};
inline Strides strides_of(const Tensor& x) { return {x.strides()[0], x.strides()[1], x.strides()[2]}; }

struct Sizes {
  int b, h, hk, n, m;
  float scale;

  /// Keys that query i sees, if causal: [0, limit), which may be empty.
  __host__ __device__ int limit(int i) const { return i + 1 + m - n; }
};
inline Sizes sizes_of(const Tensor& q, const Tensor& k, const AttentionArgs& args) {
  auto size = [](const Tensor& x, int d) { return static_cast<int>(x.shape()[d]); };
  return {size(q, 0), size(q, 1), size(k, 1), size(q, 2), size(k, 2), static_cast<float>(args.scale)};
}

/// Rows that 16-byte accesses can read and write.
inline bool aligned_rows(const Tensor& x) {
  bool ok = x.strides()[3] == 1 && reinterpret_cast<uintptr_t>(x.raw_data()) % 16 == 0;
  for (int d = 0; d < 3; ++d) ok = ok && (x.shape()[d] == 1 || x.strides()[d] % 8 == 0);
  return ok;
}

inline int device_attribute(const Tensor& x, cudaDeviceAttr which) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, which, x.device().index), "attention");
  return value;
}

inline bool suits(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                  const AttentionArgs& args) {
  const int64_t d = q.shape()[3];
  return (q.dtype() == bfloat16 || q.dtype() == float16) && (d == 64 || d == 128) && v.shape()[3] == d &&
         !mask.defined() && !bias.defined() && args.fn == AttentionFn::softmax && args.dropout == 0 && args.scale > 0 &&
         q.numel() > 0 && k.numel() > 0 && q.shape()[0] * q.shape()[1] * q.shape()[2] < INT32_MAX / 2 &&
         k.shape()[2] < INT32_MAX / 2 && device_attribute(q, cudaDevAttrComputeCapabilityMajor) == 9;
}

template <class Kernel>
void allow_shared(Kernel kernel, int bytes) {
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "attention");
}

#ifdef __CUDACC__

/// Dynamic shared memory as a Shared, which starts at a multiple of 1024 bytes: launch with kSharedBytes<Shared>.
template <class Shared>
inline constexpr int kSharedBytes = static_cast<int>(sizeof(Shared)) + 1024;
template <class Shared>
__device__ __forceinline__ Shared& shared_memory() {
  extern __shared__ char raw[];
  const uint32_t up = (1024 - shared_address(raw) % 1024) % 1024;
  return *reinterpret_cast<Shared*>(raw + up);
}

__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Over the four threads that hold one row of a product.
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

/// Thread q of four holds words x[k], of chunk k = 0…3 each; after it, x[k] of thread q is word k of chunk q: 16 bytes
/// in a row.
__device__ __forceinline__ void quad_transpose(uint32_t (&x)[4]) {
  const bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
#pragma unroll
  for (int k = 0; k < 4; k += 2) {
    const uint32_t got = __shfl_xor_sync(~0u, odd ? x[k] : x[k + 1], 1);
    (odd ? x[k] : x[k + 1]) = got;
  }
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const uint32_t got = __shfl_xor_sync(~0u, high ? x[k] : x[k + 2], 2);
    (high ? x[k] : x[k + 2]) = got;
  }
}

/// A warpgroup's product d[64, N] to rows of memory, as far as they exist: row i goes to `to + i · step` if i < rows.
/// factor: of this thread's two rows.
template <class T, int N>
__device__ __forceinline__ void store_rows(const float (&d)[N / 2], float factor0, float factor1, T* to, int64_t step,
                                           int rows) {
  const int thread = threadIdx.x % kWarpgroup, row = thread / 32 * 16 + thread % 32 / 4, q = thread % 4;
#pragma unroll
  for (int g = 0; g < N / 8; g += 4) {  // 4 chunks of 8 columns
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float f = half ? factor1 : factor0;
      uint32_t x[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) x[k] = pack<T>(d[4 * (g + k) + 2 * half] * f, d[4 * (g + k) + 2 * half + 1] * f);
      quad_transpose(x);
      const int i = row + 8 * half;
      if (i < rows) *reinterpret_cast<uint4*>(to + i * step + 8 * (g + q)) = make_uint4(x[0], x[1], x[2], x[3]);
    }
  }
}

#endif

}  // namespace weft::cuda::hopper
