#include <weft/autograd/autograd.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/kernel.h>
#include <weft/ops/reduce.h>
#include <weft/ops/reduce_op.h>
#include <weft/ops/shape.h>

namespace weft {

WEFT_DECLARE_KERNEL(reduce, ReduceOp op, const Tensor& x, Tensor& y)

std::vector<bool> Dims::mask(int64_t ndim, const char* op) const {
  std::vector<bool> reduced(static_cast<size_t>(ndim), dims_.empty());
  for (int64_t d : dims_) {
    d = wrap_dim(d, ndim, op);
    if (ndim == 0) continue;
    check(!reduced[static_cast<size_t>(d)], op, ": dim ", d, " is named twice");
    reduced[static_cast<size_t>(d)] = true;
  }
  return reduced;
}

namespace {

Shape reduced_shape(const Shape& shape, const std::vector<bool>& reduced) {
  Shape out = shape;
  for (int64_t d = 0; d < out.size(); ++d) {
    if (reduced[static_cast<size_t>(d)]) out[d] = 1;
  }
  return out;
}

Tensor drop(const Tensor& y, const std::vector<bool>& reduced, bool keep) {
  if (keep) return y;
  Shape shape;
  for (int64_t d = 0; d < y.dim(); ++d) {
    if (!reduced[static_cast<size_t>(d)]) shape.push_back(y.shape()[d]);
  }
  return reshape(y, shape);
}

Tensor apply(ReduceOp op, const Tensor& x, const Shape& shape, DType dtype) {
  Tensor y = empty(shape, dtype, x.device());
  WEFT_KERNEL(x.device(), reduce, op, x, y);
  return y;
}

DType sum_dtype(const Tensor& x) { return x.is_floating() ? x.dtype() : int64; }

}  // namespace

Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  check(broadcast_shapes(x.shape(), shape, "sum_to") == x.shape(), "sum_to: ", shape, " does not broadcast to ",
        x.shape());
  Shape aligned(static_cast<size_t>(x.dim() - shape.size()), 1);
  for (int64_t n : shape) aligned.push_back(n);
  const Tensor y = reshape(apply(ReduceOp::sum, x, aligned, sum_dtype(x)), shape);
  return record("sum_to", y, {x}, [from = x.shape()](const Tensor& dy) -> Grads { return {expand(dy, from)}; });
}

Tensor sum(const Tensor& x, const Dims& dims, bool keep) {
  const auto reduced = dims.mask(x.dim(), "sum");
  const Tensor y = apply(ReduceOp::sum, x, reduced_shape(x.shape(), reduced), sum_dtype(x));
  return drop(record("sum", y, {x}, [from = x.shape()](const Tensor& dy) -> Grads { return {expand(dy, from)}; }),
              reduced, keep);
}

Tensor mean(const Tensor& x, const Dims& dims, bool keep) {
  check(x.is_floating(), "mean: expected a floating tensor, got ", x.dtype());
  const Tensor s = sum(x, dims, keep);
  return mul(s, static_cast<double>(s.numel()) / static_cast<double>(x.numel()));
}

namespace {
// For x without zeros: the product over the reduced dimensions, divided by each element.
Tensor exclusive_product(const Tensor& x, const Shape& shape) {
  Shape reduced;
  for (int64_t d = 0; d < x.dim(); ++d) {
    if (shape[d] != x.shape()[d]) reduced.push_back(d);
  }
  return reduced.empty() ? ones_like(x) : div(prod(x, Dims(reduced), keepdim), x);
}
}  // namespace

Tensor prod(const Tensor& x, const Dims& dims, bool keep) {
  const auto reduced = dims.mask(x.dim(), "prod");
  const Shape shape = reduced_shape(x.shape(), reduced);
  const Tensor y = apply(ReduceOp::prod, x, shape, sum_dtype(x));
  return drop(record("prod", y, {x},
                     [x, shape](const Tensor& dy) -> Grads {
                       // d/dx_i is the product of the other elements. With z zeros among a product's elements that is:
                       // for z = 0, y / x_i; for z = 1, the product of the rest at the zero and 0 elsewhere; for more,
                       // 0.
                       const Tensor zero = eq(x, 0);
                       const Tensor rest = where(zero, Scalar(1.0), x);
                       const Tensor count = expand(sum_to(zero, shape), x.shape());
                       const Tensor product = exclusive_product(rest, shape);
                       const Tensor others = where(zero, eq(count, 1), eq(count, 0));
                       return {mul(dy, mul(product, others.to(dy.dtype())))};
                     }),
              reduced, keep);
}

namespace {
Tensor extreme(const char* name, ReduceOp op, const Tensor& x, const Dims& dims, bool keep) {
  const auto reduced = dims.mask(x.dim(), name);
  const Shape shape = reduced_shape(x.shape(), reduced);
  check(x.numel() > 0 || shape.numel() == 0, name, ": nothing to choose from in shape ", x.shape());
  const Tensor y = apply(op, x, shape, x.dtype());
  return drop(record(name, y, {x},
                     [x, shape](const Tensor& dy, const Tensor& y) -> Grads {
                       const Tensor hit = eq(x, y).to(dy.dtype());
                       return {mul(hit, div(dy, sum_to(hit, shape)))};
                     }),
              reduced, keep);
}
}  // namespace
Tensor amax(const Tensor& x, const Dims& dims, bool keep) { return extreme("amax", ReduceOp::max, x, dims, keep); }
Tensor amin(const Tensor& x, const Dims& dims, bool keep) { return extreme("amin", ReduceOp::min, x, dims, keep); }

Tensor any(const Tensor& x, const Dims& dims, bool keep) {
  const auto reduced = dims.mask(x.dim(), "any");
  return drop(apply(ReduceOp::any, x, reduced_shape(x.shape(), reduced), boolean), reduced, keep);
}
Tensor all(const Tensor& x, const Dims& dims, bool keep) {
  const auto reduced = dims.mask(x.dim(), "all");
  return drop(apply(ReduceOp::all, x, reduced_shape(x.shape(), reduced), boolean), reduced, keep);
}

Tensor Tensor::sum() const { return weft::sum(*this); }
Tensor Tensor::mean() const { return weft::mean(*this); }

}  // namespace weft
