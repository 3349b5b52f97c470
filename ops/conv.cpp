#include <weft/autograd/autograd.h>
#include <weft/ops/conv.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/kernel.h>
#include <weft/ops/linear.h>
#include <weft/ops/matmul.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

namespace weft {

// Shapes as in conv_geometry.h; all contiguous and of one dtype; bias: [out] or undefined.
WEFT_DECLARE_KERNEL(conv, const Tensor& x, const Tensor& weight, const Tensor& bias, const ConvGeometry& g, Tensor& y)
WEFT_DECLARE_KERNEL(conv_input_grad, const Tensor& dy, const Tensor& weight, const ConvGeometry& g, Tensor& dx)
WEFT_DECLARE_KERNEL(conv_weight_grad, const Tensor& x, const Tensor& dy, const ConvGeometry& g, Tensor& dweight)
// x: [rows, n] -> y: [rows, m], and back: dx = the transpose of that map applied to dy.
WEFT_DECLARE_KERNEL(interpolate, const Tensor& x, InterpolateMode mode, bool align_corners, Tensor& y)
WEFT_DECLARE_KERNEL(interpolate_grad, const Tensor& dy, InterpolateMode mode, bool align_corners, Tensor& dx)

// --- convolution: one trilinear form <y, conv(x, w)> seen from three sides, each the gradient of the others ----------

namespace {

Tensor input_grad(const Tensor& dy, const Tensor& w, const ConvGeometry& g, const Shape& x_shape);
Tensor weight_grad(const Tensor& x, const Tensor& dy, const ConvGeometry& g, const Shape& w_shape);

// x: [b, c, h, w], w: [o, c / groups, kh, kw] -> y of the given shape
Tensor conv(const Tensor& x0, const Tensor& w0, const Tensor& bias, const ConvGeometry& g, const Shape& y_shape) {
  const Tensor x = x0.contiguous(), w = w0.contiguous();
  Tensor y = empty(y_shape, x.dtype(), x.device());
  WEFT_KERNEL(y.device(), conv, x, w, bias.defined() ? bias.contiguous() : bias, g, y);
  return record("conv", y, {x, w, bias},
                [x, w, g, needs_bias = bias.defined() && bias.requires_grad()](const Tensor& dy) -> Grads {
                  return {x.requires_grad() ? input_grad(dy, w, g, x.shape()) : Tensor(),
                          w.requires_grad() ? weight_grad(x, dy, g, w.shape()) : Tensor(),
                          needs_bias ? sum(dy, {0, 2, 3}) : Tensor()};
                });
}

Tensor input_grad(const Tensor& dy0, const Tensor& w0, const ConvGeometry& g, const Shape& x_shape) {
  const Tensor dy = dy0.contiguous(), w = w0.contiguous();
  Tensor dx = empty(x_shape, w.dtype(), w.device());
  WEFT_KERNEL(dx.device(), conv_input_grad, dy, w, g, dx);
  return record("conv_input_grad", dx, {dy, w}, [dy, w, g](const Tensor& v) -> Grads {
    return {dy.requires_grad() ? conv(v, w, {}, g, dy.shape()) : Tensor(),
            w.requires_grad() ? weight_grad(v, dy, g, w.shape()) : Tensor()};
  });
}

Tensor weight_grad(const Tensor& x0, const Tensor& dy0, const ConvGeometry& g, const Shape& w_shape) {
  const Tensor x = x0.contiguous(), dy = dy0.contiguous();
  Tensor dw = empty(w_shape, x.dtype(), x.device());
  WEFT_KERNEL(dw.device(), conv_weight_grad, x, dy, g, dw);
  return record("conv_weight_grad", dw, {x, dy}, [x, dy, g](const Tensor& v) -> Grads {
    return {x.requires_grad() ? input_grad(dy, v, g, x.shape()) : Tensor(),
            dy.requires_grad() ? conv(x, v, {}, g, dy.shape()) : Tensor()};
  });
}

// Whether the windows lie side by side and read no padding, so that the input is its patches in another order.
bool tiles(const ConvGeometry& g, const Tensor& w, const int64_t (&after)[2]) {
  for (int64_t d = 0; d < 2; ++d) {
    if (g.stride[d] != w.size(2 + d) || g.dilation[d] != 1 || g.before[d] != 0 || after[d] != 0) return false;
  }
  return g.groups == 1 && w.size(2) * w.size(3) > 1;
}

// The convolution of windows side by side: one dense layer on the patches, as in a patch embedding. The result has its
// channels last in memory.
Tensor conv_tiles(const Tensor& x, const Tensor& w, const Tensor& bias, const Shape& y_shape) {
  const int64_t b = x.size(0), c = x.size(1), oh = y_shape[2], ow = y_shape[3], kh = w.size(2), kw = w.size(3);
  const Tensor inside = narrow(narrow(x, 2, 0, oh * kh), 3, 0, ow * kw);
  const Tensor patches = permute(reshape(inside, {b, c, oh, kh, ow, kw}), {0, 2, 4, 1, 3, 5});
  const Tensor y = linear(reshape(patches, {b, oh, ow, c * kh * kw}), reshape(w, {w.size(0), c * kh * kw}), bias);
  return permute(y, {0, 3, 1, 2});
}

// after[d]: zeros behind the input. dims: 1 or 2, for messages and checks; x and w are 4-D by now, shapes shown are the
// caller's.
struct ConvCall {
  const char* op;
  int64_t dims;
  ConvGeometry geometry;
  int64_t after[2];
};

Tensor checked_conv(const ConvCall& call, const Tensor& x0, const Tensor& w0, const Tensor& bias0) {
  const char* op = call.op;
  const ConvGeometry& g = call.geometry;
  const bool batched = x0.dim() == call.dims + 2;
  check(batched || x0.dim() == call.dims + 1, op, ": expected an input of ", call.dims + 1, " or ", call.dims + 2,
        " dimensions, got ", x0.shape());
  check(w0.dim() == call.dims + 2, op, ": expected a weight of ", call.dims + 2, " dimensions, got ", w0.shape());
  check(g.groups >= 1 && w0.size(0) % g.groups == 0, op, ": ", w0.size(0), " output channels do not divide into ",
        g.groups, " groups");
  const int64_t channels = x0.size(batched ? 1 : 0);
  check(channels == w0.size(1) * g.groups, op, ": input ", x0.shape(), " does not fit weight ", w0.shape(), " in ",
        g.groups, g.groups == 1 ? " group" : " groups");
  check(!bias0.defined() || bias0.shape() == Shape{w0.size(0)}, op, ": bias ",
        bias0.defined() ? bias0.shape() : Shape(), " does not fit weight ", w0.shape());
  check_same_device(op, {&x0, &w0, &bias0});
  Tensor x = Autocast::apply(x0), w = Autocast::apply(w0), parameter = w0;
  const Tensor bias = Autocast::apply(bias0);
  check(x.is_floating() && x.dtype() == w.dtype() && (!bias.defined() || bias.dtype() == x.dtype()), op,
        ": dtypes differ: input ", x.dtype(), ", weight ", w.dtype(), ", bias ",
        bias.defined() ? bias.dtype() : w.dtype());

  if (!batched) x = unsqueeze(x, 0);
  if (call.dims == 1) x = unsqueeze(x, 2), w = unsqueeze(w, 2), parameter = unsqueeze(parameter, 2);
  Shape y_shape = {x.size(0), w.size(0)};
  for (int64_t d = 0; d < 2; ++d) {
    const int64_t taps = w.size(2 + d), before = g.before[d], stride = g.stride[d], dilation = g.dilation[d];
    check(stride >= 1 && dilation >= 1 && before >= 0 && taps >= 1, op,
          ": expected stride, dilation and taps of at least 1 and padding of at least 0, got ", stride, ", ", dilation,
          ", ", taps, ", ", before);
    const int64_t room = x.size(2 + d) + before + call.after[d] - dilation * (taps - 1) - 1;
    check(room >= 0, op, ": weight ", w0.shape(), " with dilation ", dilation, " is larger than the padded input ",
          x0.shape());
    y_shape.push_back(room / stride + 1);
  }
  Tensor y = tiles(g, w, call.after) ? conv_tiles(x, parameter, bias0, y_shape) : conv(x, w, bias, g, y_shape);
  if (call.dims == 1) y = squeeze(y, 2);
  return batched ? y : squeeze(y, 0);
}

}  // namespace

Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv1dOptions& o) {
  check(!o.causal || o.padding == 0, "conv1d: a causal convolution brings its own padding, got padding ", o.padding);
  int64_t before = o.padding, after = o.padding;
  if (o.causal) before = (weight.size(-1) - 1) * o.dilation, after = 0;
  return checked_conv({"conv1d", 1, {{1, o.stride}, {0, before}, {1, o.dilation}, o.groups}, {0, after}}, x, weight,
                      bias);
}

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& o) {
  const ConvGeometry g{
      {o.stride[0], o.stride[1]}, {o.padding[0], o.padding[1]}, {o.dilation[0], o.dilation[1]}, o.groups};
  return checked_conv({"conv2d", 2, g, {o.padding[0], o.padding[1]}}, x, weight, bias);
}

// --- interpolation: a linear map and its transpose -------------------------------------------------------------------

namespace {

struct Resampling {
  int64_t n, m;  // from n numbers a row to m
  InterpolateMode mode;
  bool align_corners;
};

Tensor resample_grad(const Tensor& dy, const Resampling& r);

Tensor resample(const Tensor& x0, const Resampling& r) {
  const Tensor x = x0.contiguous();  // [rows, n]
  Tensor y = empty({x.size(0), r.m}, x.dtype(), x.device());
  WEFT_KERNEL(x.device(), interpolate, x, r.mode, r.align_corners, y);
  return record("interpolate1d", y, {x}, [r](const Tensor& dy) -> Grads { return {resample_grad(dy, r)}; });
}

Tensor resample_grad(const Tensor& dy0, const Resampling& r) {
  const Tensor dy = dy0.contiguous();  // [rows, m]
  Tensor dx = empty({dy.size(0), r.n}, dy.dtype(), dy.device());
  WEFT_KERNEL(dy.device(), interpolate_grad, dy, r.mode, r.align_corners, dx);
  return record("interpolate1d_grad", dx, {dy}, [r](const Tensor& v) -> Grads { return {resample(v, r)}; });
}

}  // namespace

Tensor interpolate1d(const Tensor& x, int64_t size, InterpolateMode mode, bool align_corners) {
  check(x.dim() >= 1 && x.is_floating(), "interpolate1d: expected a floating tensor [..., n], got ", x.dtype(), " ",
        x.shape());
  check(size >= 1 && x.size(-1) >= 1, "interpolate1d: expected lengths of at least 1, got ", x.size(-1), " to ", size);
  check(mode == InterpolateMode::linear || !align_corners,
        "interpolate1d: align_corners is for linear interpolation only");
  Shape shape = x.shape();
  shape.back() = size;
  const int64_t rows = Shape(shape.begin(), shape.end() - 1).numel();
  return reshape(resample(reshape(x, {rows, x.size(-1)}), {x.size(-1), size, mode, align_corners}), shape);
}

}  // namespace weft
