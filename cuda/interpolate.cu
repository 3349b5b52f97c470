// Interpolation of rows, and the transpose of that map.
#include <weft/ops/conv_geometry.h>
#include <weft/cuda/common.cuh>

namespace weft::cuda {

namespace {

// Output j of m reads inputs `low` and `low + 1` of n with weights 1 - `part` and `part`.
struct Source {
  int64_t low;
  double part;
};
__device__ Source source(int64_t j, int64_t n, int64_t m, InterpolateMode mode, bool align_corners) {
  if (mode == InterpolateMode::nearest) return {j * n / m, 0};
  double at = 0;
  if (align_corners)
    at = m > 1 ? static_cast<double>(j) * static_cast<double>(n - 1) / static_cast<double>(m - 1) : 0;
  else
    at = (static_cast<double>(j) + 0.5) * static_cast<double>(n) / static_cast<double>(m) - 0.5;
  if (at < 0) at = 0;
  int64_t low = static_cast<int64_t>(at);
  if (low > n - 1) low = n - 1;
  return {low, low + 1 < n ? at - static_cast<double>(low) : 0};
}

template <class C>
__global__ void interpolate_kernel(Data x, Data y, int64_t rows, int64_t n, int64_t m, InterpolateMode mode,
                                   bool align_corners) {
  WEFT_GRID_LOOP(i, rows * m) {
    const Source s = source(i % m, n, m, mode, align_corners);
    const int64_t at = i / m * n + s.low;
    const C a = x.load<C>(at);
    y.store(i, s.part == 0 ? a : (C(1) - C(s.part)) * a + C(s.part) * x.load<C>(at + 1));
  }
}

// A thread a row, so that what meets in one input is added in order.
template <class C>
__global__ void interpolate_grad_kernel(Data dy, C* dx, int64_t rows, int64_t n, int64_t m, InterpolateMode mode,
                                        bool align_corners) {
  WEFT_GRID_LOOP(row, rows) {
    for (int64_t i = 0; i < n; ++i) dx[row * n + i] = C(0);
    for (int64_t j = 0; j < m; ++j) {
      const Source s = source(j, n, m, mode, align_corners);
      const C g = dy.load<C>(row * m + j);
      dx[row * n + s.low] += (C(1) - C(s.part)) * g;
      if (s.part != 0) dx[row * n + s.low + 1] += C(s.part) * g;
    }
  }
}

}  // namespace

void interpolate(const Tensor& x, InterpolateMode mode, bool align_corners, Tensor& y) {
  DeviceScope scope(x);
  dispatch_float(x.dtype(), [&]<class C>(Type<C>) {
    launch("interpolate", y.numel(), interpolate_kernel<C>, data_of(x), data_of(y), y.shape()[0], x.shape()[1],
           y.shape()[1], mode, align_corners);
  });
}

void interpolate_grad(const Tensor& dy, InterpolateMode mode, bool align_corners, Tensor& dx) {
  DeviceScope scope(dx);
  dispatch_float(dx.dtype(), [&]<class C>(Type<C>) {
    Tensor sum = empty(dx.shape(), dtype_of<C>(), dx.device());
    launch("interpolate", dx.shape()[0], interpolate_grad_kernel<C>, data_of(dy), sum.data<C>(), dx.shape()[0],
           dx.shape()[1], dy.shape()[1], mode, align_corners);
    dx.copy_(sum);
  });
}

}  // namespace weft::cuda
