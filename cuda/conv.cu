// Convolutions. In one group they are matrix products with the patches of the input,
//
//   patches P: [ci·kh·kw, images·oh·ow]     y[b] = W·P[b]     dP[b] = Wᵀ·dy[b]     dW = dy'·Pᵀ over all images
//
// P[b] being the columns of image b, dy' dy with channels first. P is made for as many images at a time as fit a bound.
// A 1×1 convolution has the input itself as its patches. In several groups (depthwise: as many as channels) products
// would be small: there a thread computes a result, or a block the gradient of one weight. Every sum has one order.
#include <weft/cuda/blas.h>
#include <weft/ops/conv_geometry.h>
#include <weft/ops/copy.h>
#include <weft/cuda/block.cuh>
#include <weft/cuda/walk.cuh>

namespace weft::cuda {

namespace {

struct Sizes {
  int batch;
  int groups, ci, co;  // ci, co: channels of one group
  int h, w, kh, kw, oh, ow;
  int stride[2], before[2], dilation[2];
  Divider by_w, by_ow, by_out_plane, by_stride[2];

  Sizes(const Tensor& x, const Tensor& weight, const Tensor& y, const ConvGeometry& g)
      : batch(static_cast<int>(x.shape()[0])),
        groups(static_cast<int>(g.groups)),
        ci(static_cast<int>(weight.shape()[1])),
        co(static_cast<int>(weight.shape()[0] / g.groups)),
        h(static_cast<int>(x.shape()[2])),
        w(static_cast<int>(x.shape()[3])),
        kh(static_cast<int>(weight.shape()[2])),
        kw(static_cast<int>(weight.shape()[3])),
        oh(static_cast<int>(y.shape()[2])),
        ow(static_cast<int>(y.shape()[3])),
        by_w(static_cast<uint32_t>(std::max(w, 1))),
        by_ow(static_cast<uint32_t>(ow)),
        by_out_plane(static_cast<uint32_t>(oh * ow)) {
    for (int d = 0; d < 2; ++d) {
      stride[d] = static_cast<int>(g.stride[d]), before[d] = static_cast<int>(g.before[d]);
      dilation[d] = static_cast<int>(g.dilation[d]);
      by_stride[d] = Divider(static_cast<uint32_t>(stride[d]));
    }
  }

  WEFT_HD int plane() const { return h * w; }
  WEFT_HD int out_plane() const { return oh * ow; }
  WEFT_HD int patch() const { return ci * kh * kw; }
  bool pointwise() const {
    return kh * kw == 1 && stride[0] == 1 && stride[1] == 1 && before[0] == 0 && before[1] == 0 && oh == h && ow == w;
  }
  // Where output (p, q) reads for tap (i, j) in a plane of the input; -1 in the padding.
  __device__ int source(int p, int q, int i, int j) const {
    const int r = p * stride[0] + i * dilation[0] - before[0], t = q * stride[1] + j * dilation[1] - before[1];
    return r >= 0 && r < h && t >= 0 && t < w ? r * w + t : -1;
  }
  __device__ int source(int e, int i, int j) const {  // e: of the output plane
    const int p = divide(by_ow, e);
    return source(p, e - p * ow, i, j);
  }
  // Which output reads input (r, t) for tap (i, j); -1 if none.
  __device__ int target(int r, int t, int i, int j) const {
    const int a = r + before[0] - i * dilation[0], b = t + before[1] - j * dilation[1];
    if (a < 0 || b < 0) return -1;
    const int p = divide(by_stride[0], a), q = divide(by_stride[1], b);
    return p * stride[0] == a && q * stride[1] == b && p < oh && q < ow ? p * ow + q : -1;
  }
  __device__ static int divide(const Divider& d, int i) { return static_cast<int>(d.divide(static_cast<uint32_t>(i))); }
};

// A grid of `rows` by as many blocks as `columns` fill with a few for each thread; both are walked in loops. 32 bits
// count them: a plane, and the number of planes, are below 2^31.
dim3 grid_of(int64_t columns, int64_t rows) {
  return dim3(static_cast<unsigned>(std::clamp<int64_t>((columns + 4 * kThreads - 1) / (4 * kThreads), 1, 4096)),
              static_cast<unsigned>(std::clamp<int64_t>(rows, 1, 65535)));
}
#define WEFT_ROWS(row, rows) for (int row = blockIdx.y; row < (rows); row += gridDim.y)
#define WEFT_COLUMNS(col, columns) \
  for (int col = blockIdx.x * kThreads + threadIdx.x; col < (columns); col += gridDim.x * kThreads)

template <class... Params, class... Args>
void launch_grid(int64_t columns, int64_t rows, void (*kernel)(Params...), Args&&... args) {
  if (columns == 0 || rows == 0) return;
  kernel<<<grid_of(columns, rows), kThreads, 0, stream()>>>(std::forward<Args>(args)...);
  check_cuda(cudaGetLastError(), "conv");
}

// --- direct ---------------------------------------------------------------------------------------------------------

template <class T>
__global__ void direct_kernel(const T* x, const T* weight, const T* bias, T* y, Sizes s) {
  using C = acc_t<T>;
  WEFT_ROWS(row, s.batch * s.groups * s.co) {  // an output plane
    const int b = row / (s.groups * s.co), c = row - b * (s.groups * s.co);
    const T* in = x + (int64_t{b} * s.groups + c / s.co) * s.ci * s.plane();
    const T* taps = weight + int64_t{c} * s.patch();
    WEFT_COLUMNS(e, s.out_plane()) {
      const int p = Sizes::divide(s.by_ow, e), q = e - p * s.ow;
      C sum = bias ? static_cast<C>(bias[c]) : C(0);
      for (int k = 0; k < s.ci; ++k) {
        for (int i = 0; i < s.kh; ++i) {
          for (int j = 0; j < s.kw; ++j) {
            const int at = s.source(p, q, i, j);
            if (at >= 0)
              sum += static_cast<C>(in[int64_t{k} * s.plane() + at]) * static_cast<C>(taps[(k * s.kh + i) * s.kw + j]);
          }
        }
      }
      y[int64_t{row} * s.out_plane() + e] = T(sum);
    }
  }
}

template <class T>
__global__ void direct_input_grad_kernel(const T* dy, const T* weight, T* dx, Sizes s) {
  using C = acc_t<T>;
  WEFT_ROWS(row, s.batch * s.groups * s.ci) {  // an input plane
    const int b = row / (s.groups * s.ci), channel = row - b * (s.groups * s.ci);
    const int group = channel / s.ci, k = channel - group * s.ci;
    const T* out = dy + (int64_t{b} * s.groups + group) * s.co * s.out_plane();
    WEFT_COLUMNS(e, s.plane()) {
      const int r = Sizes::divide(s.by_w, e), t = e - r * s.w;
      C sum = 0;
      for (int i = 0; i < s.kh; ++i) {
        for (int j = 0; j < s.kw; ++j) {
          const int at = s.target(r, t, i, j);
          if (at < 0) continue;
          for (int c = 0; c < s.co; ++c)
            sum += static_cast<C>(out[int64_t{c} * s.out_plane() + at]) *
                   static_cast<C>(weight[(int64_t{group} * s.co + c) * s.patch() + (k * s.kh + i) * s.kw + j]);
        }
      }
      dx[int64_t{row} * s.plane() + e] = T(sum);
    }
  }
}

// A block a weight.
template <class T>
__global__ void direct_weight_grad_kernel(const T* x, const T* dy, T* dweight, Sizes s) {
  using C = acc_t<T>;
  __shared__ C part[kThreads];
  WEFT_ROW_LOOP(row, int64_t{s.groups} * s.co * s.patch()) {
    const int tap = static_cast<int>(row % s.patch()), c = static_cast<int>(row / s.patch());
    const int j = tap % s.kw, i = tap / s.kw % s.kh, channel = c / s.co * s.ci + tap / (s.kw * s.kh);
    C sum = 0;
    for (int64_t b = 0; b < s.batch; ++b) {
      const T* in = x + (b * s.groups * s.ci + channel) * s.plane();
      const T* out = dy + (b * s.groups * s.co + c) * s.out_plane();
      for (int e = threadIdx.x; e < s.out_plane(); e += kThreads) {
        const int at = s.source(e, i, j);
        if (at >= 0) sum += static_cast<C>(in[at]) * static_cast<C>(out[e]);
      }
    }
    sum = block_sum(sum, part);
    if (threadIdx.x == 0) dweight[row] = T(sum);
  }
}

// --- patches --------------------------------------------------------------------------------------------------------

// patches: [patch, images·out_plane]; T is any type of the elements' size.
template <class T>
__global__ void gather_kernel(const T* x, T* patches, Sizes s, int images) {
  const int columns = images * s.out_plane();
  WEFT_ROWS(row, s.patch()) {
    const int j = row % s.kw, i = row / s.kw % s.kh, k = row / (s.kw * s.kh);
    WEFT_COLUMNS(col, columns) {
      const int b = Sizes::divide(s.by_out_plane, col);
      const int at = s.source(col - b * s.out_plane(), i, j);
      patches[int64_t{row} * columns + col] = at >= 0 ? x[(int64_t{b} * s.ci + k) * s.plane() + at] : T(0);
    }
  }
}

// The transpose: dx gets the sum of its taps' entries.
template <class T>
__global__ void scatter_kernel(const T* patches, T* dx, Sizes s, int images) {
  using C = acc_t<T>;
  const int64_t columns = int64_t{images} * s.out_plane();
  WEFT_ROWS(row, images * s.ci) {
    const int b = row / s.ci, k = row - b * s.ci;
    WEFT_COLUMNS(e, s.plane()) {
      const int r = Sizes::divide(s.by_w, e), t = e - r * s.w;
      C sum = 0;
      for (int i = 0; i < s.kh; ++i) {
        for (int j = 0; j < s.kw; ++j) {
          const int at = s.target(r, t, i, j);
          if (at >= 0)
            sum += static_cast<C>(
                patches[((int64_t{k} * s.kh + i) * s.kw + j) * columns + int64_t{b} * s.out_plane() + at]);
        }
      }
      dx[int64_t{row} * s.plane() + e] = T(sum);
    }
  }
}

// y[b, c, ...] = bias[c]
template <class T>
__global__ void spread_bias_kernel(const T* bias, T* y, int channels, int plane, int planes) {
  WEFT_ROWS(row, planes) {
    const T v = bias[row % channels];
    WEFT_COLUMNS(e, plane) y[int64_t{row} * plane + e] = v;
  }
}

// Images [first, first + count) of x, of one chunk.
struct Chunk {
  int64_t first, count;
};
Tensor images(const Tensor& x, const Chunk& c) {
  Shape shape = x.shape();
  shape[0] = c.count;
  return as_strided_raw(x, shape, x.strides(), x.impl().offset + c.first * x.strides()[0]);
}

// Calls f(chunk) so that the patches of a chunk are no more than 256 MB (or those of one image).
template <class F>
void in_chunks(const Sizes& s, DType dtype, F&& f) {
  const int64_t one = std::max<int64_t>(int64_t{s.patch()} * s.out_plane() * static_cast<int64_t>(size_of(dtype)), 1);
  const int64_t most = std::clamp<int64_t>((int64_t{256} << 20) / one, 1, s.batch);
  for (int64_t first = 0; first < s.batch; first += most) f(Chunk{first, std::min(most, s.batch - first)});
}

Tensor gather(const Tensor& x, const Sizes& s) {  // x: the images of a chunk
  const int64_t count = x.shape()[0], columns = count * s.out_plane();
  check(columns < (int64_t{1} << 31), "conv: an output plane of ", s.out_plane(), " is too large");
  Tensor patches = empty({s.patch(), columns}, x.dtype(), x.device());
  const auto run = [&]<class T>(Type<T>) {
    launch_grid(columns, s.patch(), gather_kernel<T>, static_cast<const T*>(x.raw_data()),
                static_cast<T*>(patches.raw_data()), s, static_cast<int>(count));
  };
  size_of(x.dtype()) == 8   ? run(Type<uint64_t>{})
  : size_of(x.dtype()) == 4 ? run(Type<uint32_t>{})
                            : run(Type<uint16_t>{});
  return patches;
}

// Each image of a chunk as a matrix: of patches [patch, columns], of a tensor [b, channels, ...].
Matrices patches_by_image(const Tensor& patches, const Sizes& s) {
  return {patches.raw_data(), patches.dtype(), patches.shape()[0], s.out_plane(), patches.shape()[1], 1, s.out_plane()};
}
Matrices planes(const Tensor& x) {
  const int64_t channels = x.shape()[1], plane = x.shape()[2] * x.shape()[3];
  return {x.raw_data(), x.dtype(), channels, plane, plane, 1, channels * plane};
}
Matrices weights(const Tensor& w) {
  const int64_t patch = w.numel() / w.shape()[0];
  return {w.raw_data(), w.dtype(), w.shape()[0], patch, patch, 1, 0};
}
// [b, channels, ...] as [channels, b·plane]; a copy unless b is 1.
Tensor channels_first(const Tensor& x) {
  const int64_t b = x.shape()[0], channels = x.shape()[1], plane = x.shape()[2] * x.shape()[3];
  const Tensor view = as_strided_raw(x, {channels, b, plane}, {plane, channels * plane, 1}, x.impl().offset);
  const Tensor packed = b == 1 ? view : view.contiguous();
  return as_strided_raw(packed, {channels, b * plane}, {b * plane, 1}, packed.impl().offset);
}

}  // namespace

void conv(const Tensor& x, const Tensor& weight, const Tensor& bias, const ConvGeometry& g, Tensor& y) {
  if (y.numel() == 0) return;
  DeviceScope scope(y);
  const Sizes s(x, weight, y, g);
  if (s.groups > 1 || s.patch() == 0) {
    return dispatch_floating(y.dtype(), [&]<class T>(Type<T>) {
      launch_grid(s.out_plane(), s.batch * s.groups * s.co, direct_kernel<T>, x.data<T>(), weight.data<T>(),
                  bias.defined() ? bias.data<T>() : nullptr, y.data<T>(), s);
    });
  }
  if (bias.defined()) {
    dispatch_floating(y.dtype(), [&]<class T>(Type<T>) {
      launch_grid(s.out_plane(), s.batch * s.co, spread_bias_kernel<T>, bias.data<T>(), y.data<T>(), s.co,
                  s.out_plane(), s.batch * s.co);
    });
  }
  const auto product = [&](const Matrices& patches, const Tensor& out) {
    multiply({.op = "conv",
              .a = weights(weight),
              .b = patches,
              .y = planes(out),
              .batch = out.shape()[0],
              .accumulate = bias.defined()});
  };
  if (s.pointwise()) return product(planes(x), y);
  in_chunks(s, x.dtype(), [&](const Chunk& c) {
    const Tensor patches = gather(images(x, c), s);
    product(patches_by_image(patches, s), images(y, c));
  });
}

void conv_input_grad(const Tensor& dy, const Tensor& weight, const ConvGeometry& g, Tensor& dx) {
  if (dx.numel() == 0) return;
  DeviceScope scope(dx);
  const Sizes s(dx, weight, dy, g);
  if (dy.numel() == 0) return fill_into(dx, 0);
  if (s.groups > 1) {
    return dispatch_floating(dx.dtype(), [&]<class T>(Type<T>) {
      launch_grid(s.plane(), s.batch * s.groups * s.ci, direct_input_grad_kernel<T>, dy.data<T>(), weight.data<T>(),
                  dx.data<T>(), s);
    });
  }
  const auto product = [&](const Tensor& out, const Matrices& patches) {
    multiply({.op = "conv", .a = transposed(weights(weight)), .b = planes(out), .y = patches, .batch = out.shape()[0]});
  };
  if (s.pointwise()) return product(dy, planes(dx));
  in_chunks(s, dx.dtype(), [&](const Chunk& c) {
    const Tensor patches = empty({s.patch(), c.count * s.out_plane()}, dx.dtype(), dx.device());
    product(images(dy, c), patches_by_image(patches, s));
    dispatch_floating(dx.dtype(), [&]<class T>(Type<T>) {
      launch_grid(s.plane(), c.count * s.ci, scatter_kernel<T>, patches.data<T>(), images(dx, c).data<T>(), s,
                  static_cast<int>(c.count));
    });
  });
}

void conv_weight_grad(const Tensor& x, const Tensor& dy, const ConvGeometry& g, Tensor& dweight) {
  if (dweight.numel() == 0) return;
  DeviceScope scope(x);
  const Sizes s(x, dweight, dy, g);
  if (dy.numel() == 0) return fill_into(dweight, 0);
  if (s.groups > 1) {
    return dispatch_floating(x.dtype(), [&]<class T>(Type<T>) {
      launch_rows("conv", dweight.numel(), direct_weight_grad_kernel<T>, x.data<T>(), dy.data<T>(), dweight.data<T>(),
                  s);
    });
  }
  // Over several chunks the sum of a half type is kept in float32.
  Tensor sum;
  in_chunks(s, x.dtype(), [&](const Chunk& c) {
    const bool all = c.count == s.batch;
    if (!sum.defined()) sum = all || !is_half(x.dtype()) ? dweight : empty(dweight.shape(), float32, x.device());
    const Tensor patches = gather(images(x, c), s), out = channels_first(images(dy, c));
    multiply({.op = "conv",
              .a = matrices(out),
              .b = transposed(matrices(patches)),
              .y = weights(sum),
              .accumulate = c.first > 0});
  });
  if (!sum.same_as(dweight)) copy_into(sum, dweight);
}

}  // namespace weft::cuda
