// Rows in registers: a warp (or, for long rows, a block) takes a row, each thread holds a few packs of its elements as
// float, and everything that a row needs is computed from there: one read and one write of memory (docs/cuda_rows.md).
#pragma once

#include <weft/cuda/block.cuh>

#include <cstring>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace weft::cuda {

// --- elements --------------------------------------------------------------------------------------------------------

/// V elements that one instruction moves: at most 16 bytes.
template <class T, int V>
struct alignas(sizeof(T) * V) RowPack {
  T v[V];
};

/// The most elements of T that one instruction moves.
template <class T>
inline constexpr int kPack = 16 / sizeof(T);

template <class T>
__device__ acc_t<T> widen(T v) {
  if constexpr (std::is_same_v<T, Float16>)
    return __half2float(__ushort_as_half(v.bits));
  else
    return static_cast<acc_t<T>>(v);
}
template <class T>
__device__ T narrow(acc_t<T> v) {
  T out;
  if constexpr (std::is_same_v<T, BFloat16>)
    out.bits = __bfloat16_as_ushort(__float2bfloat16_rn(v));
  else if constexpr (std::is_same_v<T, Float16>)
    out.bits = __half_as_ushort(__float2half_rn(v));
  else
    out = v;
  return out;
}

/// A pack on its way: loaded and kept as whole words. Of a struct the compiler cuts elements of 16 bits as soon as it
/// is loaded, which waits for the load and takes a register each.
template <class T, int V>
struct RawPack {
  using Pack = RowPack<T, V>;
  std::conditional_t<sizeof(Pack) == 16, uint4, Pack> word;

  RawPack() = default;
  __device__ explicit RawPack(const Pack& pack) { memcpy(&word, &pack, sizeof(Pack)); }
  /// v = the elements.
  __device__ void get(acc_t<T> (&v)[V]) const {
    if constexpr (std::is_same_v<T, BFloat16> && V == 8) {  // a word: two upper halves of floats
      const uint32_t words[] = {word.x, word.y, word.z, word.w};
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = __uint_as_float(j % 2 ? words[j / 2] & 0xffff0000u : words[j / 2] << 16);
    } else {
      Pack pack;
      memcpy(&pack, &word, sizeof(Pack));
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] = widen(pack.v[j]);
    }
  }
};

/// V results of a thread. Half types go in pairs, which one instruction converts.
template <class T, int V>
__device__ RowPack<T, V> narrow_pack(const acc_t<T>* v) {
  RowPack<T, V> out;
#pragma unroll
  for (int j = 0; j < V; ++j) {
    if constexpr (sizeof(T) > 2 || V == 1) {
      out.v[j] = narrow<T>(v[j]);
    } else if (j % 2 == 0) {
      if constexpr (std::is_same_v<T, BFloat16>)
        reinterpret_cast<__nv_bfloat162&>(out.v[j]) = __floats2bfloat162_rn(v[j], v[j + 1]);
      else
        reinterpret_cast<__half2&>(out.v[j]) = __floats2half2_rn(v[j], v[j + 1]);
    }
  }
  return out;
}

inline __device__ void sine_cosine(float a, float& s, float& c) { ::sincosf(a, &s, &c); }
inline __device__ void sine_cosine(double a, double& s, double& c) { ::sincos(a, &s, &c); }

// --- a row among G threads -------------------------------------------------------------------------------------------

/// How a row lies in registers: G threads (a warp or a block), E elements a thread, in packs of V. Thread t holds the
/// packs t, t + G, t + 2G, ... so that neighbours read neighbours.
template <int G_, int E_, int V_, int threads_ = kThreads>
struct RowShape {
  static constexpr int G = G_, E = E_, V = V_, packs = E / V;
  static constexpr int threads = threads_, rows = threads / G;  // of a block, rows: at a time

  static __device__ int thread() { return threadIdx.x % G; }
  /// The rows of this group of threads are first(), first() + step(), ...
  static __device__ int64_t first() { return int64_t{blockIdx.x} * rows + threadIdx.x / G; }
  static __device__ int64_t step() { return int64_t{gridDim.x} * rows; }

  template <class C>
  static __device__ C sum(C v, C* part) {
    if constexpr (G == 32)
      return warp_reduce(v, [](C a, C b) { return a + b; });
    else
      return block_sum(v, part);
  }
  template <class C>
  static __device__ C max(C v, C* part) {
    if constexpr (G == 32)
      return warp_reduce(v, [](C a, C b) { return a > b ? a : b; });
    else
      return block_max(v, part);
  }
};

/// f(k, i) for each pack of this thread: its number and the index of its first element in a row of n.
template <class S, class F>
__device__ void each_pack(int n, F f) {
#pragma unroll
  for (int k = 0; k < S::packs; ++k) {
    const int i = (k * S::G + S::thread()) * S::V;
    if (i < n) f(k, i);
  }
}

/// A row as it lies in memory, `otherwise` beyond its end: loading is apart from converting, so that the next row's
/// loads can be under way.
template <class S, class T>
struct RawRow {
  RawPack<T, S::V> raw[S::packs];

  __device__ explicit RawRow(float otherwise = 0) {
    RowPack<T, S::V> pack;
#pragma unroll
    for (T& v : pack.v) v = narrow<T>(otherwise);
#pragma unroll
    for (auto& r : raw) r = RawPack<T, S::V>(pack);
  }
  __device__ void load(const T* row, int n) {
    each_pack<S>(n, [&](int k, int i) { raw[k] = *reinterpret_cast<const RawPack<T, S::V>*>(row + i); });
  }
  /// v = this thread's elements of the row.
  __device__ void get(float (&v)[S::E]) const {
#pragma unroll
    for (int k = 0; k < S::packs; ++k) {
      float part[S::V];
      raw[k].get(part);
#pragma unroll
      for (int j = 0; j < S::V; ++j) v[k * S::V + j] = part[j];
    }
  }
};
template <class S, class T>
__device__ void load_row(const T* row, int n, float (&v)[S::E], float otherwise = 0) {
  RawRow<S, T> raw(otherwise);
  raw.load(row, n);
  raw.get(v);
}
template <class S, class T>
__device__ void store_row(T* row, int n, const float (&v)[S::E]) {
  each_pack<S>(
      n, [&](int k, int i) { *reinterpret_cast<RowPack<T, S::V>*>(row + i) = narrow_pack<T, S::V>(v + k * S::V); });
}

/// The V elements from i on of a vector of T or float32, aligned for packs.
template <class T, int V>
__device__ void load_pack(const Data& x, int64_t i, float (&v)[V]) {
  const auto from = [&]<class S>(const S* p) {
    constexpr int step = V < kPack<S> ? V : kPack<S>;
#pragma unroll
    for (int at = 0; at < V; at += step) {
      const auto raw = *reinterpret_cast<const RowPack<S, step>*>(p + i + at);
#pragma unroll
      for (int j = 0; j < step; ++j) v[at + j] = widen(raw.v[j]);
    }
  };
  if (std::is_same_v<T, float> || x.dtype == float32)
    from(static_cast<const float*>(x.data));
  else
    from(static_cast<const T*>(x.data));
}

// --- the host's side -------------------------------------------------------------------------------------------------

/// Whether rows of n elements of x can be moved in packs of 16 bytes.
inline bool packs(const Tensor& x, int64_t n) {
  return !x.defined() || (reinterpret_cast<uintptr_t>(x.raw_data()) % 16 == 0 &&
                          n * static_cast<int64_t>(size_of(x.dtype())) % 16 == 0);
}

/// Calls f(RowShape) with the shape for rows of n elements of T; false where they do not fit into registers. threads:
/// of a block whose warps take a row each.
template <class T, int threads = kThreads, class F>
bool in_registers(int64_t n, bool packed, F&& f) {
  constexpr int V = kPack<T>;
  if (!packed && n > 256) return false;
  if (!packed)
    f(RowShape<32, 8, 1, threads>{});
  else if (n <= 256)
    f(RowShape<32, 8, V, threads>{});
  else if (n <= 512)
    f(RowShape<32, 16, V, threads>{});
  else if (n <= 768)
    f(RowShape<32, 24, V, threads>{});
  else if (n <= 1024)
    f(RowShape<32, 32, V, threads>{});
  else if (n <= 2048)
    f(RowShape<kThreads, 8, V>{});
  else if (n <= 8192)
    f(RowShape<kThreads, 32, V>{});
  else
    return false;
  return true;
}

/// Calls f(Type<T>) for the dtypes whose rows are computed in float; false for others.
template <class F>
bool float_rows(DType d, F&& f) {
  if (d == float32) return f(Type<float>{});
  if (d == bfloat16) return f(Type<BFloat16>{});
  if (d == float16) return f(Type<Float16>{});
  return false;
}

/// Blocks for rows of shape S, at most `most` (the same for any device: it decides the order of sums).
template <class S>
int row_blocks(int64_t rows, int64_t most) {
  return static_cast<int>(std::min((rows + S::rows - 1) / S::rows, most));
}

}  // namespace weft::cuda
