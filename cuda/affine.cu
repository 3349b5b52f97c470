// Heads that scale, shift and turn one projection. Forward a thread takes a few features of a row, for all heads.
// Backward reads dy and x once for all three gradients: a block owns some features and a stretch of rows, its lanes take
// a few features each, its warps the rows in turn, and each thread keeps its sums over rows in registers. Warps' sums are
// added up in shared memory, blocks' sums after, in a fixed order.
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

__device__ void sine_cosine(float a, float& s, float& c) { ::sincosf(a, &s, &c); }
__device__ void sine_cosine(double a, double& s, double& c) { ::sincos(a, &s, &c); }

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
constexpr int kHeads = 4;  // at a time

template <class T>
struct HeadGrads {
  const T* of[kHeads];
};

// The given heads, of which the first is number `first` of `heads`; dx is added to by all but the first, in C where
// there are several. sums: [gridDim.y, 2, heads, d], of the weights' gradients and the biases'.
template <class T, class D, int P, bool packed>
__global__ void __launch_bounds__(kThreads)
    affine_backward_kernel(const T* x, const acc_t<T>* weight, Turn turn, HeadGrads<T> dy, D* dx, acc_t<T>* sums,
                           int64_t rows, int heads, int d, int first, int count, int64_t chunk) {
  using C = acc_t<T>;
  __shared__ C part[2 * kHeads * P][kThreads];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int i = (static_cast<int>(blockIdx.x) * 32 + lane) * P, n = d - i;
  C w[kHeads][P] = {}, sum_w[kHeads][P] = {}, sum_b[kHeads][P] = {};
  if (n > 0) {
#pragma unroll
    for (int h = 0; h < kHeads; ++h)
      if (h < count) load<packed>(weight + int64_t{first + h} * d + i, n, w[h]);
    const int64_t begin = int64_t{blockIdx.y} * chunk, end = min(rows, begin + chunk);
    int64_t position = (begin + warp) % turn.n;
    for (int64_t row = begin + warp; row < end; row += kWarps) {
      C v[P], total[P] = {}, sine[P / 2], cosine[P / 2];
      load<packed>(x + row * d + i, n, v);
      if (first > 0) load<packed>(dx + row * d + i, n, total);
#pragma unroll
      for (int k = 0; k < P / 2; ++k)
        if (i / 2 + k < turn.pairs)
          sine_cosine(static_cast<const C*>(turn.angles)[position * turn.pairs + i / 2 + k], sine[k], cosine[k]);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        if (h >= count) continue;
        C g[P];
        load<packed>(dy.of[h] + row * d + i, n, g);
#pragma unroll
        for (int k = 0; k < P / 2; ++k) {
          if (i / 2 + k >= turn.pairs) continue;
          const C p = g[2 * k], q = g[2 * k + 1];
          g[2 * k] = p * cosine[k] + q * sine[k], g[2 * k + 1] = q * cosine[k] - p * sine[k];
        }
#pragma unroll
        for (int j = 0; j < P; ++j) total[j] += g[j] * w[h][j], sum_w[h][j] += g[j] * v[j], sum_b[h][j] += g[j];
      }
      store<packed>(dx + row * d + i, n, total);
      for (position += kWarps; position >= turn.n;) position -= turn.n;
    }
  }
#pragma unroll
  for (int h = 0; h < kHeads; ++h)
#pragma unroll
    for (int j = 0; j < P; ++j)
      part[h * 2 * P + j][threadIdx.x] = sum_w[h][j], part[h * 2 * P + P + j][threadIdx.x] = sum_b[h][j];
  __syncthreads();
  for (int k = warp; k < count * 2 * P; k += kWarps) {
    const int h = first + k / (2 * P), which = k / P % 2, j = k % P;
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
  const int64_t rows = x.shape()[0], d = x.shape()[1], heads = weight.shape()[0];
  dispatch_floating(x.dtype(), [&]<class T>(Type<T>) {
    using C = acc_t<T>;
    constexpr int P = std::is_same_v<T, double> ? 2 : 4;  // features of a thread where they lie as packs; else 2
    const auto lies_in_packs = [&](const Tensor& g) { return aligned(g, P * sizeof(T)); };
    const bool packed = d % P == 0 && lies_in_packs(x) && aligned(weight, P * sizeof(C)) &&
                        std::all_of(dy.begin(), dy.end(), lies_in_packs);
    const int64_t features = 32 * (packed ? P : 2), tiles = (d + features - 1) / features;
    const int64_t blocks = std::clamp<int64_t>(std::min((132 * 4 + tiles - 1) / tiles, rows / (4 * kWarps)), 1, 65535);
    const int64_t chunk = (rows + blocks - 1) / blocks;
    const Tensor parts = empty({blocks, 2, heads, d}, weight.dtype(), x.device());
    const auto all_heads = [&]<class D>(Type<D>, const Tensor& to) {
      for (int64_t first = 0; first < heads; first += kHeads) {
        const int64_t count = std::min<int64_t>(heads - first, kHeads);
        HeadGrads<T> of{};
        for (int64_t h = 0; h < count; ++h) of.of[h] = dy[static_cast<size_t>(first + h)].data<T>();
        const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(blocks));
        const auto kernel = packed ? affine_backward_kernel<T, D, P, true> : affine_backward_kernel<T, D, 2, false>;
        kernel<<<grid, kThreads, 0, stream()>>>(x.data<T>(), weight.data<C>(), turn_of(angles), of, to.data<D>(),
                                                parts.data<C>(), rows, static_cast<int>(heads), static_cast<int>(d),
                                                static_cast<int>(first), static_cast<int>(count), chunk);
        check_cuda(cudaGetLastError(), "affine_heads");
      }
    };
    if (heads <= kHeads) {
      all_heads(Type<T>{}, dx);
    } else {
      const Tensor wide = empty(dx.shape(), weight.dtype(), dx.device());
      all_heads(Type<C>{}, wide);
      copy_into(wide, dx);
    }
    const Tensor sums = sum(parts, 0);
    dweight = select(sums, 0, 0), dbias = select(sums, 0, 1);
  });
}

}  // namespace weft::cuda
