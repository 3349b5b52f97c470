// Copies, casts and fills: the walk (walk.cuh) with a function that does nothing. Elements that keep their dtype move
// as bits. A copy that turns a matrix goes through tiles in shared memory, so that both sides are touched in whole
// lines.
#include <weft/ops/copy.h>
#include <weft/cuda/multi_tensor.cuh>
#include <weft/cuda/walk.cuh>

namespace weft::cuda {

void transfer(const Tensor& src, Tensor& dst, bool non_blocking);  // ops/copy.cpp

namespace {

struct Same {
  template <class C, int n>
  __device__ void operator()(C (&y)[n], C (&x)[n]) const {
#pragma unroll
    for (int i = 0; i < n; ++i) y[i] = x[i];
  }
};
template <class C>
struct Constant {
  C value;
  template <int n>
  __device__ void operator()(C (&y)[n]) const {
#pragma unroll
    for (int i = 0; i < n; ++i) y[i] = value;
  }
};

/// f(Bits<size>()) for an element of so many bytes.
template <class F>
void dispatch_bits(size_t size, F&& f) {
  if (size == 1) return f(uint8_t());
  if (size == 2) return f(uint16_t());
  if (size == 4) return f(uint32_t());
  f(uint64_t());
}

// --- turning a matrix ------------------------------------------------------------------------------------------------

/// dst[r][c] = src[r][c] with dst's rows and src's columns contiguous, in a batch: the layout with its other
/// dimensions.
struct Turn {
  Walk<2> batch;  // each of its packs is one matrix
  int64_t rows, columns, dst_row, src_column;
  unsigned column_tiles, tiles;  // a matrix
};

/// A tile is a square of kSide elements. A row of it is kWide times a warp's threads with W elements each, 4 bytes
/// where an element has no more.
template <class B>
struct TileOf {
  static constexpr int W = sizeof(B) < 4 ? 4 / sizeof(B) : 1, kWide = sizeof(B) == 2 || sizeof(B) == 4 ? 2 : 1,
                       kSide = 32 * W * kWide;
  static constexpr int kRows = kThreads / 32, kSteps = kSide / kRows;
  struct alignas(W * sizeof(B)) Few {
    B v[W];
  };
};

// Row r of a tile, which begins at p and has n elements, to and from the registers of a warp's thread.
template <class B>
__device__ void load_row(const B* p, int64_t n, typename TileOf<B>::Few (&few)[TileOf<B>::kWide]) {
  using T = TileOf<B>;
#pragma unroll
  for (int k = 0; k < T::kWide; ++k) {
    const int at = (k * 32 + static_cast<int>(threadIdx.x % 32)) * T::W;
    if (at + T::W <= n && reinterpret_cast<uintptr_t>(p) % sizeof(typename T::Few) == 0) {
      few[k] = *reinterpret_cast<const typename T::Few*>(p + at);
    } else {
#pragma unroll
      for (int i = 0; i < T::W; ++i) few[k].v[i] = at + i < n ? p[at + i] : B(0);
    }
  }
}
template <class B>
__device__ void store_row(B* p, int64_t n, const typename TileOf<B>::Few (&few)[TileOf<B>::kWide]) {
  using T = TileOf<B>;
#pragma unroll
  for (int k = 0; k < T::kWide; ++k) {
    const int at = (k * 32 + static_cast<int>(threadIdx.x % 32)) * T::W;
    if (at + T::W <= n && reinterpret_cast<uintptr_t>(p) % sizeof(typename T::Few) == 0) {
      *reinterpret_cast<typename T::Few*>(p + at) = few[k];
    } else {
#pragma unroll
      for (int i = 0; i < T::W; ++i) {
        if (at + i < n) p[at + i] = few[k].v[i];
      }
    }
  }
}

template <class B>
__global__ void __launch_bounds__(kThreads) turn_kernel(const __grid_constant__ Turn t) {
  using T = TileOf<B>;
  __shared__ B tile[T::kSide][T::kSide + T::W];  // [columns][rows]; the padding spreads a column over the banks
  const uint32_t matrix = blockIdx.x / t.tiles, number = blockIdx.x - matrix * t.tiles;
  const int64_t row0 = int64_t{number / t.column_tiles} * T::kSide;
  const int64_t column0 = int64_t{number % t.column_tiles} * T::kSide;
  int64_t at[2];
  locate(t.batch, 1, matrix, at);
  B* dst = static_cast<B*>(t.batch.operand[0].data) + at[0] + column0 + row0 * t.dst_row;
  const B* src = static_cast<const B*>(t.batch.operand[1].data) + at[1] + row0 + column0 * t.src_column;
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);

  typename T::Few few[T::kSteps][T::kWide];  // all of them are asked for before the first is waited for
#pragma unroll
  for (int s = 0; s < T::kSteps; ++s) {
    const int c = warp + s * T::kRows;
    if (column0 + c < t.columns) load_row(src + c * t.src_column, t.rows - row0, few[s]);
  }
#pragma unroll
  for (int s = 0; s < T::kSteps; ++s) {
#pragma unroll
    for (int i = 0; i < T::kWide * T::W; ++i)
      tile[warp + s * T::kRows][(i / T::W * 32 + lane) * T::W + i % T::W] = few[s][i / T::W].v[i % T::W];
  }
  __syncthreads();
#pragma unroll
  for (int s = 0; s < T::kSteps; ++s) {
    const int r = warp + s * T::kRows;
    if (row0 + r >= t.rows) continue;
    typename T::Few out[T::kWide];
#pragma unroll
    for (int i = 0; i < T::kWide * T::W; ++i)
      out[i / T::W].v[i % T::W] = tile[(i / T::W * 32 + lane) * T::W + i % T::W][r];
    store_row(dst + r * t.dst_row, t.columns - column0, out);
  }
}

// Whether the layout's copy turns matrices, and did it. Operand 0 is dst, whose dimensions come in falling stride.
template <class B>
bool turn(const Layout<2>& l) {
  const int last = l.ndim - 1;
  if (l.strides[0][last] != 1 || l.strides[1][last] == 1 || l.sizes[last] < 8) return false;
  for (int d = 0; d < last; ++d) {
    if (l.strides[1][d] != 1 || l.sizes[d] < 8) continue;
    const int64_t rows = l.sizes[d], columns = l.sizes[last];
    const Layout<2> batch = l.part(d, 0, 1).part(last, 0, 1);
    const int64_t column_tiles = (columns + TileOf<B>::kSide - 1) / TileOf<B>::kSide,
                  tiles = (rows + TileOf<B>::kSide - 1) / TileOf<B>::kSide * column_tiles,
                  blocks = batch.numel() * tiles;
    if (blocks >= int64_t{1} << 31) return false;
    const Turn t{Walk<2>(batch, 1),      rows,           columns, l.strides[0][d], l.strides[1][last],
                 unsigned(column_tiles), unsigned(tiles)};
    turn_kernel<B><<<static_cast<unsigned>(blocks), kThreads, 0, stream()>>>(t);
    check_cuda(cudaGetLastError(), "copy");
    return true;
  }
  return false;
}

// --- on one device ---------------------------------------------------------------------------------------------------

void move(const Layout<2>& l) {
  const DType to = l.operand[0].dtype, from = l.operand[1].dtype;
  if (to == from) {
    return dispatch_bits(size_of(to), [&]<class B>(B) {
      if (!turn<B>(l)) walk<B, 16 / sizeof(B), 2>("copy", l, Stored<B>(), Stored<B>(), Same());
    });
  }
  auto cast = [&]<class C, class Y, class X>(Type<C>, Type<Y>, Type<X>) {
    constexpr int packs = std::is_same_v<X, Any> ? 1 : 4;
    walk<C, 4, packs>("cast", l, Stored<Y>(), Stored<X>(), Same());
  };
  if (is_half(to) && from == float32)
    dispatch_storage({to}, [&](auto y) { cast(Type<float>(), y, Type<float>()); });
  else if (to == float32 && is_half(from))
    dispatch_storage({from}, [&](auto x) { cast(Type<float>(), Type<float>(), x); });
  else if (is_floating(to) || is_floating(from))
    cast(Type<double>(), Type<Any>(), Type<Any>());
  else
    cast(Type<int64_t>(), Type<Any>(), Type<Any>());
}

// --- many tensors ----------------------------------------------------------------------------------------------------

// List 0, float32, to list 1.
template <class T>
__global__ void __launch_bounds__(kThreads) cast_all_kernel(const __grid_constant__ Table<2> table) {
  struct alignas(4 * sizeof(T)) Four {
    T v[4];
  };
  for (int k = blockIdx.x; k < table.chunks(); k += gridDim.x) {
    const Chunk<2> chunk(table, k);
    const float* x = static_cast<const float*>(chunk.list[0].data);
    T* y = static_cast<T*>(chunk.list[1].data);
    const int64_t whole = chunk.wide ? chunk.begin + (chunk.end - chunk.begin) / 4 * 4 : chunk.begin;
    for (int64_t i = chunk.begin + 4 * threadIdx.x; i < whole; i += 4 * kThreads) {
      const float4 v = *reinterpret_cast<const float4*>(x + i);
      *reinterpret_cast<Four*>(y + i) = {{T(v.x), T(v.y), T(v.z), T(v.w)}};
    }
    for (int64_t i = whole + threadIdx.x; i < chunk.end; i += kThreads) y[i] = T(x[i]);
  }
}

}  // namespace

void cast_all(const Tensors& x, const Tensors& y) {
  DeviceScope scope(x[0]);
  const bool brain = y[0].dtype() == bfloat16;
  for_tables<float>({&x, &y}, [&](const auto& table, int chunks) {
    const int blocks = std::min(chunks, kMultiBlocks);
    if (brain)
      cast_all_kernel<BFloat16><<<blocks, kThreads, 0, stream()>>>(table);
    else
      cast_all_kernel<Float16><<<blocks, kThreads, 0, stream()>>>(table);
    check_cuda(cudaGetLastError(), "cast");
  });
}

void copy(const Tensor& src, Tensor& dst) {
  if (dst.numel() == 0) return;
  const bool across = !(src.device() == dst.device());
  DeviceScope scope(dst.device().is_cuda() ? dst : src);
  if (across) {  // the layouts are made plain on their own devices, the bytes cross as they are
    const Tensor from = src.dtype() == dst.dtype() ? src.contiguous() : src.to(dst.dtype()).contiguous();
    if (dst.is_contiguous()) return transfer(from, dst, false);
    Tensor there = empty(dst.shape(), dst.dtype(), dst.device());
    transfer(from, there, false);
    return copy_into(there, dst);
  }
  if (src.dtype() == dst.dtype() && src.is_contiguous() && dst.is_contiguous()) {
    const auto bytes = static_cast<size_t>(src.numel()) * size_of(src.dtype());
    return check_cuda(cudaMemcpyAsync(dst.raw_data(), src.raw_data(), bytes, cudaMemcpyDeviceToDevice, stream()),
                      "copy");
  }
  move(Layout<2>(dst.shape(), {&dst, &src}));
}

void fill(Tensor& dst, Scalar value) {
  if (dst.numel() == 0) return;
  DeviceScope scope(dst);
  dispatch_all(dst.dtype(), [&]<class T>(Type<T>) {
    using B = Bits<sizeof(T)>;
    const B bits = std::bit_cast<B>(value.to<T>());
    if (bits == 0 && dst.is_contiguous()) {
      const auto bytes = static_cast<size_t>(dst.numel()) * sizeof(T);
      return check_cuda(cudaMemsetAsync(dst.raw_data(), 0, bytes, stream()), "fill");
    }
    walk<B, 16 / sizeof(B), 2>("fill", Layout<1>(dst.shape(), {&dst}), Stored<B>(), Stored<>(), Constant<B>{bits});
  });
}

}  // namespace weft::cuda
