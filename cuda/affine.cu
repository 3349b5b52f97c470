// Heads that scale and shift one projection: forward a walk (walk.cuh); backward reads dy and x once for all three
// gradients. A block there owns 32 features and a stretch of rows: its lanes take a feature each, its warps the rows in
// turn, and each thread keeps its sums over rows, two a head, in shared memory that is its own. Blocks' sums are added
// up after, in a fixed order.
#include <weft/ops/copy.h>
#include <weft/ops/reduce.h>
#include <weft/cuda/walk.cuh>

namespace weft::cuda {

namespace {

struct ScaleShift {
  template <class C, int n>
  __device__ void operator()(C (&y)[n], C (&x)[n], C (&w)[n], C (&b)[n]) const {
#pragma unroll
    for (int i = 0; i < n; ++i) y[i] = x[i] * w[i] + b[i];
  }
};

constexpr int kLanes = 32, kWarps = kThreads / kLanes;
constexpr int kHeads = 8;  // at a time: 2 · 8 · 256 sums in shared memory

// Heads [first, first + count); dx is added to by all but the first, in C where there are several. Sums: [gridDim.y,
// heads, d].
template <class T, class D, class C>
__global__ void __launch_bounds__(kThreads)
    affine_backward_kernel(const T* x, const C* weight, const T* dy, D* dx, C* dweight, C* dbias, int64_t rows,
                           int64_t heads, int64_t d, int64_t first, int count, int64_t chunk) {
  __shared__ C sum_w[kHeads][kThreads], sum_b[kHeads][kThreads];
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int64_t i = int64_t{blockIdx.x} * kLanes + lane;
  const int64_t end = min(rows, (int64_t{blockIdx.y} + 1) * chunk);
  for (int h = 0; h < count; ++h) sum_w[h][threadIdx.x] = 0, sum_b[h][threadIdx.x] = 0;
  if (i < d) {
    for (int64_t row = int64_t{blockIdx.y} * chunk + warp; row < end; row += kWarps) {
      const C v = from_storage<C>(x[row * d + i]);
      C total = first > 0 ? from_storage<C>(dx[row * d + i]) : C(0);
#pragma unroll 4
      for (int h = 0; h < count; ++h) {
        const int64_t at = (first + h) * d + i;
        const C g = from_storage<C>(dy[row * heads * d + at]);
        total += g * weight[at];
        sum_w[h][threadIdx.x] += g * v;
        sum_b[h][threadIdx.x] += g;
      }
      dx[row * d + i] = to_storage<D>(total);
    }
  }
  __syncthreads();
  if (i >= d) return;
  for (int h = warp; h < count; h += kWarps) {
    C w = 0, b = 0;
    for (int other = 0; other < kWarps; ++other)
      w += sum_w[h][other * kLanes + lane], b += sum_b[h][other * kLanes + lane];
    const int64_t at = (int64_t{blockIdx.y} * heads + first + h) * d + i;
    dweight[at] = w, dbias[at] = b;
  }
}

template <class F>
void dispatch_type(DType dtype, F&& f) {
  if (dtype == float64) return f(Type<double>{}, Type<double>{});
  if (dtype == float32) return f(Type<float>{}, Type<float>{});
  if (dtype == bfloat16) return f(Type<BFloat16>{}, Type<float>{});
  f(Type<Float16>{}, Type<float>{});
}

}  // namespace

void affine_heads(const Tensor& x0, const Tensor& weight, const Tensor& bias, Tensor& y) {
  DeviceScope scope(y);
  const int64_t d = x0.shape()[1];
  const Tensor x = as_strided_raw(x0, {x0.shape()[0], 1, d}, {d, 0, 1}, x0.impl().offset);
  const Layout<4> l(y.shape(), {&y, &x, &weight, &bias});
  dispatch_type(y.dtype(), [&]<class T, class C>(Type<T>, Type<C>) {
    walk<C, kPackOf<T>, 1>("affine_heads", l, Stored<T>(), Stored<T, C, C>(), ScaleShift());
  });
}

void affine_heads_backward(const Tensor& x, const Tensor& weight, const Tensor& dy, Tensor& dx, Tensor& dweight,
                           Tensor& dbias) {
  DeviceScope scope(dx);
  const int64_t rows = x.shape()[0], d = x.shape()[1], heads = weight.shape()[0];
  const int64_t tiles = (d + kLanes - 1) / kLanes;
  const int64_t blocks = std::clamp<int64_t>(std::min((132 * 8 + tiles - 1) / tiles, rows / (4 * kWarps)), 1, 65535);
  const int64_t chunk = (rows + blocks - 1) / blocks;
  const Tensor parts_w = empty({blocks, heads, d}, weight.dtype(), x.device()), parts_b = empty_like(parts_w);
  dispatch_type(x.dtype(), [&]<class T, class C>(Type<T>, Type<C>) {
    const auto all_heads = [&]<class D>(Type<D>, const Tensor& to) {
      for (int64_t first = 0; first < heads; first += kHeads) {
        const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(blocks));
        affine_backward_kernel<T, D, C><<<grid, kThreads, 0, stream()>>>(
            x.data<T>(), weight.data<C>(), dy.data<T>(), to.data<D>(), parts_w.data<C>(), parts_b.data<C>(), rows,
            heads, d, first, static_cast<int>(std::min<int64_t>(heads - first, kHeads)), chunk);
        check_cuda(cudaGetLastError(), "affine_heads");
      }
    };
    if (heads <= kHeads) return all_heads(Type<T>{}, dx);
    const Tensor sums = empty(dx.shape(), dtype_of<C>(), dx.device());
    all_heads(Type<C>{}, sums);
    copy_into(sums, dx);
  });
  dweight = sum(parts_w, 0), dbias = sum(parts_b, 0);
}

}  // namespace weft::cuda
