#include <weft/autograd/autograd.h>
#include <weft/ops/affine.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/kernel.h>
#include <weft/ops/reduce.h>
#include <weft/ops/rotary.h>
#include <weft/ops/shape.h>

namespace weft {

// x, dx: contiguous [rows, d]; y: contiguous [heads, rows, d]; dy: a contiguous [rows, d] for each head; weight, bias,
// dweight, dbias: contiguous [heads, d] in the compute type; angles: contiguous [n, pairs] in the compute type, those
// of row r at r mod n, or undefined.
WEFT_DECLARE_KERNEL(affine_heads, const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& angles,
                    Tensor& y)
WEFT_DECLARE_KERNEL(affine_heads_backward, const Tensor& x, const Tensor& weight, const Tensor& angles,
                    const Tensors& dy, Tensor& dx, Tensor& dweight, Tensor& dbias)

namespace {

// The gradients as ops, for second order. x: [rows, d], dy: a tensor of the caller's shape for each head.
Grads composed_backward(const Tensor& x, const Tensor& weight, const Tensor& angles, const Tensors& dy) {
  const DType c = weight.dtype();
  Tensors heads;
  for (const Tensor& g : dy) {
    const Tensor back = angles.defined() ? rotary(g.to(c), neg(angles)) : g.to(c);
    heads.push_back(reshape(back, x.shape()));
  }
  const Tensor all = stack(heads, 1);  // [rows, heads, d]
  return {sum(mul(all, weight), 1), sum(mul(all, unsqueeze(x.to(c), 1)), 0), sum(all, 0)};
}

void check_arguments(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& angles) {
  check(x.is_floating() && weight.is_floating() && bias.is_floating(), "affine_heads: expected floating tensors, got ",
        x.dtype(), ", ", weight.dtype(), " and ", bias.dtype());
  check(x.dim() >= 1 && weight.dim() == 2 && weight.size(0) > 0 && weight.size(1) == x.size(-1) &&
            bias.shape() == weight.shape(),
        "affine_heads: weight ", weight.shape(), " and bias ", bias.shape(), " do not fit x ", x.shape());
  check(!angles.defined() || (angles.is_floating() && angles.dim() == 2 && x.dim() >= 2 &&
                              angles.size(0) == x.size(-2) && 2 * angles.size(1) <= x.size(-1)),
        "affine_heads: angles ", angles.defined() ? angles.shape() : Shape(), " do not fit x ", x.shape());
  check_same_device("affine_heads", {&x, &weight, &bias, &angles});
}

}  // namespace

Tensors affine_heads(const Tensor& x0, const Tensor& weight, const Tensor& bias, const Tensor& angles) {
  check_arguments(x0, weight, bias, angles);
  const DType c = x0.dtype() == float64 ? float64 : float32;
  if (angles.defined() && angles.requires_grad() && grad_enabled()) {  // learned
    Tensors heads = affine_heads(x0.to(c), weight, bias);
    for (Tensor& head : heads) head = rotary(head, angles).to(x0.dtype());
    return heads;
  }
  const int64_t d = weight.size(1), rows = Shape(x0.shape().begin(), x0.shape().end() - 1).numel();
  const Tensor x = reshape(x0, {rows, d}).contiguous(), w = weight.to(c).contiguous(), b = bias.to(c).contiguous(),
               turn = angles.defined() ? angles.detach().to(c).contiguous() : angles;
  Tensor y = empty({weight.size(0), rows, d}, x.dtype(), x.device());
  if (y.numel() > 0) WEFT_KERNEL(x.device(), affine_heads, x.detach(), w.detach(), b.detach(), turn, y);
  Tensors heads = unbind(y, 0);
  for (Tensor& head : heads) head = reshape(head, x0.shape());
  return record("affine_heads", heads, {x, w, b}, [x, w, turn](const Tensors& dy) -> Grads {
    if (grad_enabled() || x.numel() == 0) return composed_backward(x, w, turn, dy);
    Tensors each;
    for (const Tensor& g : dy) each.push_back(reshape(g.detach(), x.shape()).contiguous());
    Tensor dx = empty_like(x), dw = empty_like(w), db = empty_like(w);
    WEFT_KERNEL(x.device(), affine_heads_backward, x.detach(), w.detach(), turn, each, dx, dw, db);
    return {dx, dw, db};
  });
}

}  // namespace weft
