// Walking tensors together: what every elementwise kernel, copy and cast is made of (docs/cuda_elementwise.md).
//
// The common shape of the operands is coalesced into as few dimensions as their strides allow. Its innermost dimension
// is cut into packs of V elements, which are numbered through; a thread takes kPacks of them: it loads them all, hands
// the values to a function, and stores what that gives. An operand whose elements lie side by side is moved a pack at a
// time, in one instruction of up to 16 bytes; one that repeats is read once a pack; any other element by element.
#pragma once

#include <weft/cuda/common.cuh>

#include <cstdlib>

namespace weft::cuda {

/// i / size for i < 2^31 without a division (Granlund and Montgomery, PLDI 1994).
struct Divider {
  uint32_t size = 1, factor = 1, shift = 0;
  Divider() = default;
  explicit Divider(uint32_t n) : size(n) {
    while ((uint64_t{1} << shift) < n) ++shift;
    factor = static_cast<uint32_t>((((uint64_t{1} << shift) - n) << 32) / n + 1);
  }
  __device__ uint32_t divide(uint32_t i) const { return (__umulhi(i, factor) + i) >> shift; }
};

// --- the host's side -------------------------------------------------------------------------------------------------

/// The coalesced iteration space of N operands, operand 0 (and with several results, those after it) being written.
/// Dimensions come in the order in which operand 0 lies in memory, so nothing may depend on the number of an element.
template <int N>
struct Layout {
  int ndim = 0;
  int64_t sizes[kMaxDims], strides[N][kMaxDims];
  Data operand[N];

  Layout(const Shape& shape, const Tensor* const (&tensors)[N]) {
    int64_t lead[N];
    for (int k = 0; k < N; ++k) {
      operand[k] = data_of(*tensors[k]);
      lead[k] = shape.size() - tensors[k]->dim();
    }
    for (int64_t d = 0; d < shape.size(); ++d) {
      if (shape[d] == 1) continue;
      int at = ndim++;
      int64_t step[N];
      for (int k = 0; k < N; ++k) {
        const int64_t own = d - lead[k];
        step[k] = own < 0 || tensors[k]->shape()[own] == 1 ? 0 : tensors[k]->strides()[own];
      }
      for (; at > 0 && std::abs(strides[0][at - 1]) < std::abs(step[0]); --at) move(at - 1, at);
      sizes[at] = shape[d];
      for (int k = 0; k < N; ++k) strides[k][at] = step[k];
    }
    coalesce();
  }

  int64_t numel() const {
    int64_t n = 1;
    for (int d = 0; d < ndim; ++d) n *= sizes[d];
    return n;
  }

  /// Elements [begin, begin + n) of dimension d only.
  Layout part(int d, int64_t begin, int64_t n) const {
    Layout out = *this;
    out.sizes[d] = n;
    for (int k = 0; k < N; ++k)
      out.operand[k].data =
          static_cast<char*>(operand[k].data) + begin * strides[k][d] * static_cast<int64_t>(size_of(operand[k].dtype));
    return out;
  }

 private:
  void move(int from, int to) {
    sizes[to] = sizes[from];
    for (int k = 0; k < N; ++k) strides[k][to] = strides[k][from];
  }
  // A dimension joins the one outside of it where every operand goes on from the end of a row to the next.
  void coalesce() {
    int last = 0;
    for (int d = 1; d < ndim; ++d) {
      bool joins = true;
      for (int k = 0; k < N; ++k) joins = joins && strides[k][last] == strides[k][d] * sizes[d];
      if (!joins) {
        move(d, ++last);
        continue;
      }
      sizes[last] *= sizes[d];
      for (int k = 0; k < N; ++k) strides[k][last] = strides[k][d];
    }
    if (ndim > 0) ndim = last + 1;
    if (ndim == 0) {
      ndim = 1, sizes[0] = 1;
      for (int k = 0; k < N; ++k) strides[k][0] = 0;
    }
  }
};

// --- what a kernel is given ------------------------------------------------------------------------------------------

struct WalkOperand {
  void* data;
  DType dtype;
  bool vector;                // its packs are aligned and lie side by side
  int64_t inner;              // stride of the innermost dimension
  int64_t strides[kMaxDims];  // of the others, the next inner one first
};

template <int N>
struct Walk {
  uint32_t packs, rows_dims;  // packs in all; dimensions but the innermost
  int64_t length;             // of the innermost dimension
  Divider row_packs;          // packs in it
  Divider sizes[kMaxDims];    // of the others, the next inner one first
  WalkOperand operand[N];

  Walk(const Layout<N>& l, int v) {
    const int last = l.ndim - 1;
    length = l.sizes[last];
    const int64_t row = (length + v - 1) / v;
    packs = static_cast<uint32_t>(l.numel() / length * row);
    row_packs = Divider(static_cast<uint32_t>(row));
    rows_dims = static_cast<uint32_t>(last);
    for (int d = 0; d < last; ++d) sizes[d] = Divider(static_cast<uint32_t>(l.sizes[last - 1 - d]));
    for (int k = 0; k < N; ++k) {
      WalkOperand& o = operand[k];
      o.data = l.operand[k].data, o.dtype = l.operand[k].dtype, o.inner = l.strides[k][last];
      o.vector = o.inner == 1 && reinterpret_cast<uintptr_t>(o.data) % (v * size_of(o.dtype)) == 0;
      for (int d = 0; d < last; ++d) {
        o.strides[d] = l.strides[k][last - 1 - d];
        o.vector = o.vector && o.strides[d] % v == 0;
      }
    }
  }
};

// --- packs -----------------------------------------------------------------------------------------------------------

/// Storage whose dtype is known at run time only.
struct Any {};

/// Unsigned integers of the size of an element: loading does not ask what the bits mean.
template <int kBytes>
using Bits =
    std::conditional_t<kBytes == 1, uint8_t,
                       std::conditional_t<kBytes == 2, uint16_t, std::conditional_t<kBytes == 4, uint32_t, uint64_t>>>;

/// V elements as they lie in memory.
template <class B, int V>
struct alignas(sizeof(B) * V < 16 ? sizeof(B) * V : 16) Pack {
  uint32_t word[V * sizeof(B) / 4];

  __device__ B get(int i) const {
    if constexpr (sizeof(B) == 8)
      return word[2 * i] | static_cast<uint64_t>(word[2 * i + 1]) << 32;
    else
      return static_cast<B>(word[i * sizeof(B) / 4] >> (i * sizeof(B) % 4 * 8));
  }
  /// For a pack whose words are 0 there.
  __device__ void set(int i, B v) {
    if constexpr (sizeof(B) == 8)
      word[2 * i] = static_cast<uint32_t>(v), word[2 * i + 1] = static_cast<uint32_t>(v >> 32);
    else
      word[i * sizeof(B) / 4] |= static_cast<uint32_t>(v) << (i * sizeof(B) % 4 * 8);
  }
  template <class T>
  __device__ T as(int i) const {
    return std::bit_cast<T>(get(i));
  }
};

// count: elements of the pack that exist, V but at the end of a row. All three ways end in the same whole words, so
// that nothing has to wait for one operand before the next is asked for.
template <class B, int V>
__device__ void load_pack(const WalkOperand& o, int64_t offset, int count, Pack<B, V>& pack) {
  const B* p = static_cast<const B*>(o.data) + offset;
  if (o.vector && count == V) {
    pack = *reinterpret_cast<const Pack<B, V>*>(p);
    return;
  }
  pack = {};
  if (o.inner == 0) {
    const B v = *p;
#pragma unroll
    for (int i = 0; i < V; ++i) pack.set(i, v);
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) pack.set(i, i < count ? p[i * o.inner] : B(0));
  }
}

template <class B, int V>
__device__ void store_pack(const WalkOperand& o, int64_t offset, int count, const Pack<B, V>& pack) {
  B* p = static_cast<B*>(o.data) + offset;
  if (o.vector && count == V) {
    *reinterpret_cast<Pack<B, V>*>(p) = pack;
    return;
  }
#pragma unroll
  for (int i = 0; i < V; ++i) {
    if (i < count) p[i * o.inner] = pack.get(i);
  }
}

template <class C, class T>
__device__ C from_storage(T v) {
  if constexpr (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>)
    return static_cast<C>(static_cast<float>(v));
  else
    return static_cast<C>(v);
}
template <class T, class C>
__device__ T to_storage(C v) {
  if constexpr (std::is_same_v<T, C>)
    return v;
  else if constexpr (std::is_same_v<T, bool>)
    return v != C(0);
  else if constexpr (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>)
    return T(static_cast<float>(v));
  else
    return static_cast<T>(v);
}

/// f(Type<T>{}) for a dtype known at run time, in a kernel.
template <class F>
__device__ void visit_dtype(DType d, F&& f) {
  switch (d) {
    case DType::float64:
      return f(Type<double>{});
    case DType::float32:
      return f(Type<float>{});
    case DType::bfloat16:
      return f(Type<BFloat16>{});
    case DType::float16:
      return f(Type<Float16>{});
    case DType::int64:
      return f(Type<int64_t>{});
    case DType::int32:
      return f(Type<int32_t>{});
    case DType::uint8:
      return f(Type<uint8_t>{});
    case DType::boolean:
      return f(Type<bool>{});
  }
}

/// A thread's values of one operand, U packs of V that are stored as S. Loading is apart from converting, so that all
/// loads of a thread are under way before it waits for one.
template <class C, class S, int V, int U>
struct Values {
  using B = Bits<sizeof(S)>;
  Pack<B, V> pack[U];
  C value[U * V];

  __device__ void load(int u, const WalkOperand& o, int64_t offset, int count) { load_pack(o, offset, count, pack[u]); }
  __device__ void convert(const WalkOperand&) {
#pragma unroll
    for (int i = 0; i < U * V; ++i) value[i] = from_storage<C>(pack[i / V].template as<S>(i % V));
  }
  __device__ void store(int u, const WalkOperand& o, int64_t offset, int count) {
    pack[u] = {};
#pragma unroll
    for (int i = 0; i < V; ++i) pack[u].set(i, std::bit_cast<B>(to_storage<S>(value[u * V + i])));
    store_pack(o, offset, count, pack[u]);
  }
};
template <class C, int V, int U>
struct Values<C, Any, V, U> {
  uint32_t word[U][2 * V];  // packs of elements of up to 8 bytes
  C value[U * V];

  template <class B>
  __device__ Pack<B, V>& pack(int u) {
    return *reinterpret_cast<Pack<B, V>*>(word[u]);
  }
  __device__ void load(int u, const WalkOperand& o, int64_t offset, int count) {
    visit_dtype(o.dtype, [&]<class T>(Type<T>) { load_pack(o, offset, count, pack<Bits<sizeof(T)>>(u)); });
  }
  __device__ void convert(const WalkOperand& o) {
    visit_dtype(o.dtype, [&]<class T>(Type<T>) {
#pragma unroll
      for (int i = 0; i < U * V; ++i) value[i] = from_storage<C>(pack<Bits<sizeof(T)>>(i / V).template as<T>(i % V));
    });
  }
  __device__ void store(int u, const WalkOperand& o, int64_t offset, int count) {
    visit_dtype(o.dtype, [&]<class T>(Type<T>) {
      using B = Bits<sizeof(T)>;
      Pack<B, V> pack = {};
#pragma unroll
      for (int i = 0; i < V; ++i) pack.set(i, std::bit_cast<B>(to_storage<T>(value[u * V + i])));
      store_pack(o, offset, count, pack);
    });
  }
};

// --- the kernel ------------------------------------------------------------------------------------------------------

template <class... S>
struct Stored {};

/// Where pack number i begins in each operand, and how many elements it has.
template <int N>
__device__ int locate(const Walk<N>& w, int v, uint32_t i, int64_t (&offset)[N]) {
  uint32_t row = 0, first = i;
  if (w.rows_dims > 0) {
    row = w.row_packs.divide(i);
    first -= row * w.row_packs.size;
  }
  const int64_t start = int64_t{first} * v;
#pragma unroll
  for (int k = 0; k < N; ++k) offset[k] = start * w.operand[k].inner;
#pragma unroll 1
  for (uint32_t d = 0; d < w.rows_dims; ++d) {
    const uint32_t next = w.sizes[d].divide(row);
    const int64_t at = row - next * w.sizes[d].size;
#pragma unroll
    for (int k = 0; k < N; ++k) offset[k] += at * w.operand[k].strides[d];
    row = next;
  }
  const int64_t left = w.length - start;
  return left < v ? static_cast<int>(left) : v;
}

template <class C, int V, int U, class F, class... Y, class... X>
__device__ void walk_packs(F f, Stored<Y...>, Stored<X...>, const Walk<sizeof...(Y) + sizeof...(X)>& w) {
  constexpr int kResults = sizeof...(Y), kOperands = kResults + sizeof...(X);
  auto with_results = [&](auto... y) {
    auto with_inputs = [&](auto... x) {
      int64_t offset[U][kOperands];
      int count[U];
#pragma unroll
      for (int u = 0; u < U; ++u) {
        const uint32_t i = (blockIdx.x * U + u) * kThreads + threadIdx.x;
        count[u] = i < w.packs ? locate(w, V, i, offset[u]) : 0;
        int k = kResults;
        if (count[u] > 0) ((x.load(u, w.operand[k], offset[u][k], count[u]), ++k), ...);
      }
      int k = kResults;
      (x.convert(w.operand[k++]), ...);
      f(y.value..., x.value...);
#pragma unroll
      for (int u = 0; u < U; ++u) {
        int k = 0;
        if (count[u] > 0) ((y.store(u, w.operand[k], offset[u][k], count[u]), ++k), ...);
      }
    };
    with_inputs(Values<C, X, V, U>()...);
  };
  with_results(Values<C, Y, V, U>()...);
}

template <class C, int V, int U, class F, class Y, class X, class W>
__global__ void __launch_bounds__(kThreads) walk_kernel(F f, Y y, X x, const __grid_constant__ W w) {
  walk_packs<C, V, U>(f, y, x, w);
}

/// f(y..., x...) over every element of the layout, whose operands are the results y, stored as Y, then what is read, x,
/// stored as X. f gets arrays of C, a thread's elements, and fills those of y. V: elements a pack.
template <class C, int V, int U, class F, class... Y, class... X>
void walk(const char* op, const Layout<sizeof...(Y) + sizeof...(X)>& l, Stored<Y...> y, Stored<X...> x, F f) {
  const int last = l.ndim - 1;
  const int64_t n = l.numel();
  if (n == 0) return;
  const int64_t packs = n / l.sizes[last] * ((l.sizes[last] + V - 1) / V);
  if (packs >= int64_t{1} << 31) {  // numbers of packs have 32 bits
    const int d = static_cast<int>(std::max_element(l.sizes, l.sizes + l.ndim) - l.sizes);
    const int64_t half = (l.sizes[d] / 2 + V - 1) / V * V;
    walk<C, V, U>(op, l.part(d, 0, half), y, x, f);
    return walk<C, V, U>(op, l.part(d, half, l.sizes[d] - half), y, x, f);
  }
  const auto blocks = static_cast<unsigned>((packs + U * kThreads - 1) / (U * kThreads));
  walk_kernel<C, V, U><<<blocks, kThreads, 0, stream()>>>(f, y, x, Walk<sizeof...(Y) + sizeof...(X)>(l, V));
  check_cuda(cudaGetLastError(), op);
}

/// Calls f with the storage type that all of the tensors share, where it is one that kernels are compiled for, else
/// with Any.
template <class F>
void dispatch_storage(std::initializer_list<DType> dtypes, F&& f) {
  const DType first = *dtypes.begin();
  if (!std::all_of(dtypes.begin(), dtypes.end(), [first](DType d) { return d == first; })) return f(Type<Any>{});
  if (first == float32) return f(Type<float>{});
  if (first == bfloat16) return f(Type<BFloat16>{});
  if (first == float16) return f(Type<Float16>{});
  f(Type<Any>{});
}

/// Elements a pack, and packs a thread, for operands stored as S.
template <class S>
inline constexpr int kPackOf = 16 / sizeof(S);
template <>
inline constexpr int kPackOf<Any> = 4;
template <class S>
inline constexpr int kPacks = std::is_same_v<S, Any> ? 1 : 2;

}  // namespace weft::cuda
