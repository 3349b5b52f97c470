// Convolution as its defining sum, one thread a result.
#include <weft/ops/conv_geometry.h>
#include <weft/cuda/block.cuh>

namespace weft::cuda {

namespace {

struct Sizes {
  int64_t b, ci, co, h, w, kh, kw, oh, ow, groups;  // ci, co: channels a group
};

Sizes sizes(const Tensor& x, const Tensor& weight, const Tensor& y, const ConvGeometry& g) {
  return {x.shape()[0],
          x.shape()[1] / g.groups,
          y.shape()[1] / g.groups,
          x.shape()[2],
          x.shape()[3],
          weight.shape()[2],
          weight.shape()[3],
          y.shape()[2],
          y.shape()[3],
          g.groups};
}

template <class C>
__global__ void conv_kernel(Data x, Data weight, Data bias, Data y, Sizes s, ConvGeometry g) {
  WEFT_GRID_LOOP(i, s.b * s.groups * s.co * s.oh * s.ow) {
    const int64_t q = i % s.ow, p = i / s.ow % s.oh, c = i / (s.ow * s.oh) % (s.groups * s.co),
                  b = i / (s.ow * s.oh * s.groups * s.co), group = c / s.co;
    C sum = bias.data ? bias.load<C>(c) : C(0);
    for (int64_t ci = 0; ci < s.ci; ++ci) {
      for (int64_t u = 0; u < s.kh; ++u) {
        for (int64_t v = 0; v < s.kw; ++v) {
          const int64_t r = p * g.stride[0] + u * g.dilation[0] - g.before[0],
                        t = q * g.stride[1] + v * g.dilation[1] - g.before[1];
          if (r < 0 || r >= s.h || t < 0 || t >= s.w) continue;
          sum += x.load<C>(((b * s.groups * s.ci + group * s.ci + ci) * s.h + r) * s.w + t) *
                 weight.load<C>(((c * s.ci + ci) * s.kh + u) * s.kw + v);
        }
      }
    }
    y.store(i, sum);
  }
}

template <class C>
__global__ void conv_input_grad_kernel(Data dy, Data weight, Data dx, Sizes s, ConvGeometry g) {
  WEFT_GRID_LOOP(i, s.b * s.groups * s.ci * s.h * s.w) {
    const int64_t t = i % s.w, r = i / s.w % s.h, channel = i / (s.w * s.h) % (s.groups * s.ci),
                  b = i / (s.w * s.h * s.groups * s.ci), group = channel / s.ci, ci = channel % s.ci;
    C sum = 0;
    for (int64_t c = group * s.co; c < (group + 1) * s.co; ++c) {
      for (int64_t u = 0; u < s.kh; ++u) {
        for (int64_t v = 0; v < s.kw; ++v) {
          const int64_t pr = r + g.before[0] - u * g.dilation[0], qt = t + g.before[1] - v * g.dilation[1];
          if (pr < 0 || qt < 0 || pr % g.stride[0] || qt % g.stride[1] || pr / g.stride[0] >= s.oh ||
              qt / g.stride[1] >= s.ow)
            continue;
          sum += dy.load<C>(((b * s.groups * s.co + c) * s.oh + pr / g.stride[0]) * s.ow + qt / g.stride[1]) *
                 weight.load<C>(((c * s.ci + ci) * s.kh + u) * s.kw + v);
        }
      }
    }
    dx.store(i, sum);
  }
}

// A block a weight.
template <class C>
__global__ void conv_weight_grad_kernel(Data x, Data dy, Data dweight, Sizes s, ConvGeometry g) {
  __shared__ C part[kThreads];
  WEFT_ROW_LOOP(i, s.groups * s.co * s.ci * s.kh * s.kw) {
    const int64_t v = i % s.kw, u = i / s.kw % s.kh, ci = i / (s.kw * s.kh) % s.ci, c = i / (s.kw * s.kh * s.ci),
                  group = c / s.co;
    C sum = 0;
    WEFT_THREAD_LOOP(e, s.b * s.oh * s.ow) {
      const int64_t q = e % s.ow, p = e / s.ow % s.oh, b = e / (s.ow * s.oh);
      const int64_t r = p * g.stride[0] + u * g.dilation[0] - g.before[0],
                    t = q * g.stride[1] + v * g.dilation[1] - g.before[1];
      if (r < 0 || r >= s.h || t < 0 || t >= s.w) continue;
      sum += x.load<C>(((b * s.groups * s.ci + group * s.ci + ci) * s.h + r) * s.w + t) *
             dy.load<C>(((b * s.groups * s.co + c) * s.oh + p) * s.ow + q);
    }
    sum = block_sum(sum, part);
    if (threadIdx.x == 0) dweight.store(i, sum);
  }
}

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

void conv(const Tensor& x, const Tensor& weight, const Tensor& bias, const ConvGeometry& g, Tensor& y) {
  DeviceScope scope(y);
  dispatch_float(y.dtype(), [&]<class C>(Type<C>) {
    launch("conv", y.numel(), conv_kernel<C>, data_of(x), data_of(weight), data_of(bias), data_of(y),
           sizes(x, weight, y, g), g);
  });
}

void conv_input_grad(const Tensor& dy, const Tensor& weight, const ConvGeometry& g, Tensor& dx) {
  DeviceScope scope(dx);
  dispatch_float(dx.dtype(), [&]<class C>(Type<C>) {
    launch("conv", dx.numel(), conv_input_grad_kernel<C>, data_of(dy), data_of(weight), data_of(dx),
           sizes(dx, weight, dy, g), g);
  });
}

void conv_weight_grad(const Tensor& x, const Tensor& dy, const ConvGeometry& g, Tensor& dweight) {
  DeviceScope scope(x);
  dispatch_float(x.dtype(), [&]<class C>(Type<C>) {
    launch_rows("conv", dweight.numel(), conv_weight_grad_kernel<C>, data_of(x), data_of(dy), data_of(dweight),
                sizes(x, dweight, dy, g), g);
  });
}

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
