// Heads that scale, shift and turn one projection. Forward a thread takes a few features of a row, for all heads.
// Backward reads dy and x once for all three gradients: a block owns some features and a stretch of rows, its lanes
// take two features each, its warps the rows in turn, a few on the way at once, and each thread keeps its sums over
// rows in registers. Warps' sums are added up in shared memory, blocks' sums after, in a fixed order.
#include <weft/ops/copy.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>
#include <weft/cuda/rows.cuh>

namespace weft::cuda {

namespace {

struct Turn {
  const void* angles;  // [n, pairs] in the compute type, or null: pairs = 0
  int64_t n;
  int pairs;
};

// P features of a thread: one instruction where packed says that they lie so, else element by element up to the d-th.
template <bool packed, int P, class T, class C>
__device__ void load(const T* p, int n, C (&v)[P]) {
  RowPack<T, P> pack;
  if constexpr (packed) pack = *reinterpret_cast<const RowPack<T, P>*>(p);
#pragma unroll
  for (int j = 0; j < P; ++j) v[j] = packed ? widen(pack.v[j]) : j < n ? static_cast<C>(widen(p[j])) : C(0);
}
template <bool packed, int P, class T, class C>
__device__ void store(T* p, int n, const C (&v)[P]) {
  RowPack<T, P> pack;
#pragma unroll
  for (int j = 0; j < P; ++j) {
    pack.v[j] = narrow<T>(v[j]);
    if (!packed && j < n) p[j] = pack.v[j];
  }
  if constexpr (packed) *reinterpret_cast<RowPack<T, P>*>(p) = pack;
}

template <class T, int P, bool packed>
__global__ void affine_kernel(const T* x, const acc_t<T>* weight, const acc_t<T>* bias, Turn turn, T* y, int64_t rows,
                              int heads, int d) {
  using C = acc_t<T>;
  const int units = (d + P - 1) / P;
  WEFT_GRID_LOOP(i, rows * units) {
    const int64_t row = i / units;
    const int first = static_cast<int>(i % units) * P, n = d - first;
    const C* angles = static_cast<const C*>(turn.angles) + row % turn.n * turn.pairs + first / 2;
    C v[P], sine[P / 2], cosine[P / 2];
    load<packed>(x + row * d + first, n, v);
#pragma unroll
    for (int k = 0; k < P / 2; ++k)
      if (first / 2 + k < turn.pairs) sine_cosine(angles[k], sine[k], cosine[k]);
#pragma unroll 4
    for (int h = 0; h < heads; ++h) {
      C w[P], b[P], out[P];
      load<packed>(weight + h * d + first, n, w);
      load<packed>(bias + h * d + first, n, b);
#pragma unroll
      for (int j = 0; j < P; ++j) out[j] = v[j] * w[j] + b[j];
#pragma unroll
      for (int k = 0; k < P / 2; ++k) {
        if (first / 2 + k >= turn.pairs) continue;
        const C p = out[2 * k], q = out[2 * k + 1];
        out[2 * k] = p * cosine[k] - q * sine[k];
        out[2 * k + 1] = q * cosine[k] + p * sine[k];
      }
      store<packed>(y + (h * rows + row) * d + first, n, out);
    }
  }
}

constexpr int kWarps = kThreads / 32;
constexpr int kHeads = 4, kRows = 4;  // of a thread at a time

template <class T>
struct HeadGrads {
  const T* of[kHeads];
};

// The given heads, of which the first is number `first` of `heads`; dx is added to by all but the first, in C where
// there are several. sums: [gridDim.y, 2, heads, d], of the weights' gradients and the biases'.
template <class T, class D, bool packed>
__global__ void __launch_bounds__(kThreads)
    affine_backward_kernel(const T* x, const acc_t<T>* weight, Turn turn, HeadGrads<T> dy, D* dx, acc_t<T>* sums,
                           int64_t rows, int heads, int d, int first, int count, int64_t chunk) {
  using C = acc_t<T>;
  __shared__ C part[2 * kHeads * 2][kThreads];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int i = (static_cast<int>(blockIdx.x) * 32 + lane) * 2, n = d - i;
  C w[kHeads][2] = {}, sum_w[kHeads][2] = {}, sum_b[kHeads][2] = {};
  if (n > 0) {
#pragma unroll
    for (int h = 0; h < kHeads; ++h)
      if (h < count) load<packed>(weight + int64_t{first + h} * d + i, n, w[h]);
    const C* angles = static_cast<const C*>(turn.angles) + i / 2;
    const bool turns = i / 2 < turn.pairs;
    const int64_t begin = int64_t{blockIdx.y} * chunk, end = min(rows, begin + chunk);
    for (int64_t row0 = begin + warp; row0 < end; row0 += kRows * kWarps) {
      C v[kRows][2] = {}, g[kRows][kHeads][2] = {}, angle[kRows] = {};
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int64_t row = row0 + r * kWarps;
        if (row >= end) continue;
        load<packed>(x + row * d + i, n, v[r]);
        if (turns) angle[r] = angles[row % turn.n * turn.pairs];
#pragma unroll
        for (int h = 0; h < kHeads; ++h)
          if (h < count) load<packed>(dy.of[h] + row * d + i, n, g[r][h]);
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int64_t row = row0 + r * kWarps;
        if (row >= end) continue;
        C total[2] = {}, sine = 0, cosine = 1;
        if (first > 0) load<packed>(dx + row * d + i, n, total);
        if (turns) sine_cosine(angle[r], sine, cosine);
#pragma unroll
        for (int h = 0; h < kHeads; ++h) {
          C(&of)[2] = g[r][h];
          if (turns) {
            const C p = of[0], q = of[1];
            of[0] = p * cosine + q * sine, of[1] = q * cosine - p * sine;
          }
#pragma unroll
          for (int j = 0; j < 2; ++j) total[j] += of[j] * w[h][j], sum_w[h][j] += of[j] * v[r][j], sum_b[h][j] += of[j];
        }
        store<packed>(dx + row * d + i, n, total);
      }
    }
  }
#pragma unroll
  for (int h = 0; h < kHeads; ++h)
#pragma unroll
    for (int j = 0; j < 2; ++j)
      part[h * 4 + j][threadIdx.x] = sum_w[h][j], part[h * 4 + 2 + j][threadIdx.x] = sum_b[h][j];
  __syncthreads();
  for (int k = warp; k < count * 4; k += kWarps) {
    const int h = first + k / 4, which = k / 2 % 2, j = k % 2;
    if (j >= n) continue;
    C total = 0;
    for (int other = 0; other < kWarps; ++other) total += part[k][other * 32 + lane];
    sums[((int64_t{blockIdx.y} * 2 + which) * heads + h) * d + i + j] = total;
  }
}

Turn turn_of(const Tensor& angles) {
  if (!angles.defined()) return {nullptr, 1, 0};
  return {angles.raw_data(), angles.shape()[0], static_cast<int>(angles.shape()[1])};
}

bool aligned(const Tensor& x, size_t bytes) { return reinterpret_cast<uintptr_t>(x.raw_data()) % bytes == 0; }

}  // namespace

void affine_heads(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& angles, Tensor& y) {
  DeviceScope scope(y);
  const int64_t rows = x.shape()[0], d = x.shape()[1], heads = weight.shape()[0];
  dispatch_floating(x.dtype(), [&]<class T>(Type<T>) {
    constexpr int P = kPack<T>;
    const auto run = [&](auto kernel, int64_t units) {
      launch("affine_heads", rows * units, kernel, x.data<T>(), weight.data<acc_t<T>>(), bias.data<acc_t<T>>(),
             turn_of(angles), y.data<T>(), rows, static_cast<int>(heads), static_cast<int>(d));
    };
    const bool packed = packs(x, d) && aligned(weight, P * sizeof(acc_t<T>)) && aligned(bias, P * sizeof(acc_t<T>));
    packed ? run(affine_kernel<T, P, true>, d / P) : run(affine_kernel<T, 2, false>, (d + 1) / 2);
  });
}

void affine_heads_backward(const Tensor& x, const Tensor& weight, const Tensor& angles, const Tensors& dy, Tensor& dx,
                           Tensor& dweight, Tensor& dbias) {
  DeviceScope scope(dx);
  const int64_t rows = x.shape()[0], d = x.shape()[1], heads = weight.shape()[0], tiles = (d + 63) / 64;
  const int64_t blocks =
      std::clamp<int64_t>(std::min((132 * 4 + tiles - 1) / tiles, rows / (kRows * kWarps)), 1, 65535);
  const int64_t chunk = (rows + blocks - 1) / blocks;
  const Tensor parts = empty({blocks, 2, heads, d}, weight.dtype(), x.device());
  dispatch_floating(x.dtype(), [&]<class T>(Type<T>) {
    using C = acc_t<T>;
    const auto in_pairs = [](const Tensor& t) { return aligned(t, 2 * size_of(t.dtype())); };
    const bool packed = d % 2 == 0 && in_pairs(x) && in_pairs(weight) && std::all_of(dy.begin(), dy.end(), in_pairs);
    const auto all_heads = [&]<class D>(Type<D>, const Tensor& to) {
      for (int64_t first = 0; first < heads; first += kHeads) {
        const int64_t count = std::min<int64_t>(heads - first, kHeads);
        HeadGrads<T> of{};
        for (int64_t h = 0; h < count; ++h) of.of[h] = dy[static_cast<size_t>(first + h)].data<T>();
        const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(blocks));
        const auto kernel = packed ? affine_backward_kernel<T, D, true> : affine_backward_kernel<T, D, false>;
        kernel<<<grid, kThreads, 0, stream()>>>(x.data<T>(), weight.data<C>(), turn_of(angles), of, to.data<D>(),
                                                parts.data<C>(), rows, static_cast<int>(heads), static_cast<int>(d),
                                                static_cast<int>(first), static_cast<int>(count), chunk);
        check_cuda(cudaGetLastError(), "affine_heads");
      }
    };
    if (heads <= kHeads) return all_heads(Type<T>{}, dx);
    const Tensor wide = empty(dx.shape(), weight.dtype(), dx.device());
    all_heads(Type<C>{}, wide);
    copy_into(wide, dx);
  });
  const Tensor sums = sum(parts, 0);
  copy_into(select(sums, 0, 0), dweight), copy_into(select(sums, 0, 1), dbias);
}

}  // namespace weft::cuda
