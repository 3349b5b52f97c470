#include <weft/autograd/autograd.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/kernel.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>
#include <weft/ops/softmax.h>

#include <limits>

namespace weft {

// x, y, dy, dx: contiguous, rows along the last dimension. mask: x's shape by expansion, or undefined.
WEFT_DECLARE_KERNEL(softmax, const Tensor& x, const Tensor& mask, bool log, Tensor& y)
WEFT_DECLARE_KERNEL(softmax_backward, const Tensor& y, const Tensor& dy, bool log, Tensor& dx)

namespace {

// Along the last dimension of dy and y.
Tensor backward(bool log, const Tensor& dy, const Tensor& y) {
  if (!grad_enabled()) {
    const Tensor in = dy.contiguous();
    Tensor dx = empty_like(in);
    WEFT_KERNEL(y.device(), softmax_backward, y, in, log, dx);
    return dx;
  }
  if (!log) return mul(y, sub(dy, sum(mul(dy, y), -1, keepdim)));
  const Tensor absent = eq(y, -std::numeric_limits<double>::infinity());
  const Tensor g = where(absent, Scalar(0.0), dy);
  // exp of an absent entry is taken of a constant, so that its own gradient is 0 and not 0·inf.
  const Tensor p = where(absent, Scalar(0.0), exp(where(absent, Scalar(0.0), y)));
  return sub(g, mul(p, sum(g, -1, keepdim)));
}

Tensor apply(const char* name, bool log, const Tensor& x, const Tensor& mask, int64_t dim) {
  check(x.is_floating(), name, ": expected a floating tensor, got ", x.dtype());
  dim = wrap_dim(dim, x.dim(), name);
  if (x.dim() == 0) return reshape(apply(name, log, reshape(x, {1}), mask, 0), {});
  const Tensor in = movedim(x, dim, -1).contiguous();
  Tensor m;
  if (mask.defined()) {
    check(mask.dtype() == boolean, name, ": the mask must be bool, got ", mask.dtype());
    check(mask.dim() <= x.dim() && broadcast_shapes(x.shape(), mask.shape(), name) == x.shape(), name, ": mask ",
          mask.shape(), " does not broadcast to ", x.shape());
    check_same_device(name, {&x, &mask});
    m = movedim(expand(mask, x.shape()), dim, -1);
  }
  Tensor y = empty_like(in);
  WEFT_KERNEL(in.device(), softmax, in, m, log, y);
  y = record(name, y, {in}, [log](const Tensor& dy, const Tensor& y) -> Grads { return {backward(log, dy, y)}; });
  return movedim(y, -1, dim);
}

}  // namespace

Tensor softmax(const Tensor& x, int64_t dim) { return apply("softmax", false, x, {}, dim); }
Tensor softmax(const Tensor& x, const Tensor& mask, int64_t dim) { return apply("softmax", false, x, mask, dim); }
Tensor log_softmax(const Tensor& x, int64_t dim) { return apply("log_softmax", true, x, {}, dim); }
Tensor log_softmax(const Tensor& x, const Tensor& mask, int64_t dim) {
  return apply("log_softmax", true, x, mask, dim);
}

}  // namespace weft
