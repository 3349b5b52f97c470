#include <weft/autograd/autograd.h>
#include <weft/ops/affine.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/kernel.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

namespace weft {

// x, dx: contiguous [rows, d]; y, dy: contiguous [rows, heads, d]; weight, bias, dweight, dbias: contiguous [heads, d]
// in the compute type.
WEFT_DECLARE_KERNEL(affine_heads, const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y)
WEFT_DECLARE_KERNEL(affine_heads_backward, const Tensor& x, const Tensor& weight, const Tensor& dy, Tensor& dx,
                    Tensor& dweight, Tensor& dbias)

namespace {

DType compute_type(const Tensor& x) { return x.dtype() == float64 ? float64 : float32; }

// The gradients as ops, for second order; all in the compute type.
Grads composed_backward(const Tensor& x, const Tensor& weight, const Tensor& dy) {
  return {sum(mul(dy, weight), -2), sum(mul(dy, unsqueeze(x, -2)), 0), sum(dy, 0)};
}

}  // namespace

Tensor affine_heads(const Tensor& x0, const Tensor& weight, const Tensor& bias) {
  check(x0.is_floating() && weight.is_floating() && bias.is_floating(), "affine_heads: expected floating tensors, got ",
        x0.dtype(), ", ", weight.dtype(), " and ", bias.dtype());
  check(x0.dim() >= 1 && weight.dim() == 2 && weight.size(1) == x0.size(-1) && bias.shape() == weight.shape(),
        "affine_heads: weight ", weight.shape(), " and bias ", bias.shape(), " do not fit x ", x0.shape());
  check_same_device("affine_heads", {&x0, &weight, &bias});
  const DType c = compute_type(x0);
  const int64_t heads = weight.size(0), d = weight.size(1);
  Shape shape = x0.shape();
  shape.back() = heads, shape.push_back(d);
  const int64_t count = Shape(x0.shape().begin(), x0.shape().end() - 1).numel();
  const Tensor x = reshape(x0, {count, d}).contiguous(), w = weight.to(c).contiguous(), b = bias.to(c).contiguous();
  Tensor y = empty({count, heads, d}, x.dtype(), x.device());
  if (y.numel() > 0) WEFT_KERNEL(x.device(), affine_heads, x.detach(), w.detach(), b.detach(), y);
  return reshape(record("affine_heads", y, {x, w, b},
                        [x, w, c](const Tensor& dy0) -> Grads {
                          if (grad_enabled() || dy0.numel() == 0) return composed_backward(x.to(c), w, dy0.to(c));
                          Tensor dx = empty_like(x), dw = empty_like(w), db = empty_like(w);
                          WEFT_KERNEL(x.device(), affine_heads_backward, x.detach(), w.detach(), dy0.contiguous(), dx,
                                      dw, db);
                          return {dx, dw, db};
                        }),
                 shape);
}

}  // namespace weft
