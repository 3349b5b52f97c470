#include <weft/autograd/autograd.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/glu.h>
#include <weft/ops/glu_fn.h>
#include <weft/ops/kernel.h>
#include <weft/ops/shape.h>

namespace weft {

namespace {

Tensor half(const Tensor& x, int64_t dim, int which) {
  const int64_t n = x.shape()[dim] / 2;
  return narrow(x, dim, which * n, n);
}

// The same made of other ops.
Tensor compose(Gate f, const Tensor& value, const Tensor& gate) {
  switch (f) {
    case Gate::sigmoid:
      return mul(value, sigmoid(gate));
    case Gate::gelu:
      return mul(value, gelu(gate));
    case Gate::silu:
      return mul(value, silu(gate));
    case Gate::relu:
      return mul(value, relu(gate));
  }
  return {};
}

Tensor gated(const char* name, Gate f, const Tensor& x, int64_t dim) {
  check(x.is_floating(), name, ": expected a floating tensor, got ", x.dtype());
  dim = wrap_dim(dim, x.dim(), name);
  check(x.dim() > 0 && x.shape()[dim] % 2 == 0, name, ": expected an even size in dim ", dim, " of ", x.shape());
  const Tensor in = x.detach(), value = half(in, dim, 0);
  Tensor y = empty(value.shape(), x.dtype(), x.device());
  WEFT_KERNEL(x.device(), glu, f, value, half(in, dim, 1), y);
  return record(name, y, {x}, [f, x, dim](const Tensor& dy) -> Grads {
    if (grad_enabled()) {
      const Tensor value = half(x, dim, 0), gate = half(x, dim, 1);
      return {cat(grad({compose(f, value, gate)}, {value, gate}, {dy}, {.create_graph = true}), dim)};
    }
    const Tensor in = x.detach(), dx = empty_like(in);
    Tensor dvalue = half(dx, dim, 0), dgate = half(dx, dim, 1), none;
    WEFT_KERNEL(in.device(), glu_backward, f, half(in, dim, 0), half(in, dim, 1), dy, dvalue, dgate, none);
    return {dx};
  });
}

}  // namespace

Tensor glu(const Tensor& x, int64_t dim) { return gated("glu", Gate::sigmoid, x, dim); }
Tensor geglu(const Tensor& x, int64_t dim) { return gated("geglu", Gate::gelu, x, dim); }
Tensor swiglu(const Tensor& x, int64_t dim) { return gated("swiglu", Gate::silu, x, dim); }
Tensor reglu(const Tensor& x, int64_t dim) { return gated("reglu", Gate::relu, x, dim); }

}  // namespace weft
