// Copies, casts and fills: the walk (walk.cuh) with a function that does nothing. Elements that keep their dtype move
// as bits. A copy that turns a matrix goes through tiles in shared memory, so that both sides are touched in whole
// lines.
#include <weft/ops/copy.h>
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

/// A tile is a square of kTile elements, of which a thread moves as many at a time as 4 bytes hold.
template <class B>
inline constexpr int kTile = sizeof(B) < 4 ? 32 * (4 / sizeof(B)) : 32;

template <class B>
__global__ void __launch_bounds__(kThreads) turn_kernel(const __grid_constant__ Turn t) {
  constexpr int kSide = kTile<B>, W = kSide / 32, kRows = kThreads / 32;
  __shared__ B tile[kSide][kSide + W];
  const uint32_t matrix = blockIdx.x / t.tiles, number = blockIdx.x - matrix * t.tiles;
  const int64_t row0 = int64_t{number / t.column_tiles} * kSide, column0 = int64_t{number % t.column_tiles} * kSide;
  int64_t at[2];
  locate(t.batch, 1, matrix, at);
  B* dst = static_cast<B*>(t.batch.operand[0].data) + at[0];
  const B* src = static_cast<const B*>(t.batch.operand[1].data) + at[1];
  const int lane = static_cast<int>(threadIdx.x % 32) * W, first = static_cast<int>(threadIdx.x / 32);

  const bool whole_rows = row0 + lane + W <= t.rows, whole_columns = column0 + lane + W <= t.columns;
  auto aligned = [](const B* p) { return reinterpret_cast<uintptr_t>(p) % (W * sizeof(B)) == 0; };
  struct alignas(W * sizeof(B)) Few {
    B v[W];
  };
  for (int c = first; c < kSide && column0 + c < t.columns; c += kRows) {  // down a column of src
    const B* p = src + row0 + lane + (column0 + c) * t.src_column;
    if (whole_rows && aligned(p)) {
      const Few few = *reinterpret_cast<const Few*>(p);
#pragma unroll
      for (int i = 0; i < W; ++i) tile[c][lane + i] = few.v[i];
    } else {
#pragma unroll
      for (int i = 0; i < W; ++i) {
        if (row0 + lane + i < t.rows) tile[c][lane + i] = p[i];
      }
    }
  }
  __syncthreads();
  for (int r = first; r < kSide && row0 + r < t.rows; r += kRows) {  // along a row of dst
    B* p = dst + column0 + lane + (row0 + r) * t.dst_row;
    if (whole_columns && aligned(p)) {
      Few few;
#pragma unroll
      for (int i = 0; i < W; ++i) few.v[i] = tile[lane + i][r];
      *reinterpret_cast<Few*>(p) = few;
    } else {
#pragma unroll
      for (int i = 0; i < W; ++i) {
        if (column0 + lane + i < t.columns) p[i] = tile[lane + i][r];
      }
    }
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
    const int64_t column_tiles = (columns + kTile<B> - 1) / kTile<B>,
                  tiles = (rows + kTile<B> - 1) / kTile<B> * column_tiles, blocks = batch.numel() * tiles;
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

}  // namespace

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
