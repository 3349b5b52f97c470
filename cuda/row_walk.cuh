// Rows of any length, walked by a warp or a block in packs. Rows begin anywhere: the elements before the first address
// that 16 divides and those that fill no pack at the end are moved one by one.
#pragma once

#include <weft/cuda/rows.cuh>

namespace weft::cuda {

/// Where the packs of a row of n elements begin, and how many they are.
template <int V, class T>
struct Span {
  int64_t head = 0, packs, n;
  __device__ Span(const T* row, int64_t n) : n(n) {
    if constexpr (V > 1) head = (V - reinterpret_cast<uintptr_t>(row) / sizeof(T) % V) % V;
    head = head < n ? head : n;
    packs = (n - head) / V;
  }
  __device__ int64_t tail() const { return head + packs * V; }  // where what is left begins
};

/// f(k, i, pack) for this thread's share of a row among G threads: pack number k of V elements from element i on, or
/// k = -1 and a pack of one.
template <int V, int G, class T, class F>
__device__ void each_in_row(const T* row, int64_t n, int thread, F f) {
  const Span<V, T> span(row, n);
  const auto* packs = reinterpret_cast<const RowPack<T, V>*>(row + span.head);
  constexpr int kLoads = 4;  // packs that a thread has under way
  for (int64_t k = thread; k < span.packs; k += kLoads * G) {
    RowPack<T, V> raw[kLoads];
#pragma unroll
    for (int u = 0; u < kLoads; ++u)
      if (k + u * G < span.packs) raw[u] = packs[k + u * G];
#pragma unroll
    for (int u = 0; u < kLoads; ++u)
      if (k + u * G < span.packs) f(k + u * G, span.head + (k + u * G) * V, raw[u]);
  }
  for (int64_t i = thread; i < span.head; i += G) f(int64_t{-1}, i, RowPack<T, 1>{row[i]});
  for (int64_t i = span.tail() + thread; i < n; i += G) f(int64_t{-1}, i, RowPack<T, 1>{row[i]});
}

template <int M, class T>
__device__ void put(T* row, int64_t i, const RowPack<T, M>& v) {
  *reinterpret_cast<RowPack<T, M>*>(row + i) = v;
}
template <int M, class T>
__device__ RowPack<T, M> get(const T* row, int64_t i) {
  return *reinterpret_cast<const RowPack<T, M>*>(row + i);
}

/// A warp or a block of G threads, and its sums. part: shared memory for a value a warp.
template <int G, class C>
struct Team {
  C* part;
  static __device__ int thread() { return threadIdx.x % G; }
  __device__ C sum(C v) const {
    if constexpr (G == 32)
      return warp_reduce(v, [](C a, C b) { return a + b; });
    else
      return block_sum<G>(v, part);
  }
  __device__ C max(C v) const {
    if constexpr (G == 32)
      return warp_reduce(v, [](C a, C b) { return a > b ? a : b; });
    else
      return block_max<G>(v, part);
  }
};

/// exp(x); of what half types hold, by the fast instruction (errors of some 1e-6 beside 1).
template <class T>
__device__ acc_t<T> row_exp(acc_t<T> x) {
  if constexpr (sizeof(T) == 2) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.4426950408889634f));
    return y;
  } else if constexpr (sizeof(T) == 4) {
    return ::expf(x);
  } else {
    return ::exp(x);
  }
}

/// The largest of what was seen, NaN passed over, and Σ exp(x - largest), of rows of T.
template <class T, class C = acc_t<T>>
struct ExpSum {
  C top = minus_infinity<C>(), sum = 0;

  template <int M>
  __device__ void add(const C (&v)[M]) {
    C high = top;
#pragma unroll
    for (int j = 0; j < M; ++j) high = v[j] > high ? v[j] : high;
    if (high > top) {
      sum *= row_exp<T>(top - high);
      top = high;
    }
    if (top == minus_infinity<C>()) return;
#pragma unroll
    for (int j = 0; j < M; ++j) sum += row_exp<T>(v[j] - top);
  }
  /// That of all threads of the team.
  template <int G>
  __device__ ExpSum over(const Team<G, C>& team) const {
    ExpSum all;
    all.top = team.max(top);
    all.sum = team.sum(top == minus_infinity<C>() ? C(0) : sum * row_exp<T>(top - all.top));
    return all;
  }
};

/// Whether packs of x and y begin at the same elements.
inline bool alike(const Tensor& x, const Tensor& y) {
  return (reinterpret_cast<uintptr_t>(x.raw_data()) - reinterpret_cast<uintptr_t>(y.raw_data())) % 16 == 0;
}

}  // namespace weft::cuda
