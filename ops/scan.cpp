#include <weft/autograd/autograd.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/kernel.h>
#include <weft/ops/scan.h>
#include <weft/ops/scan_op.h>
#include <weft/ops/shape.h>

#include <limits>

namespace weft {

// y: x's shape, contiguous, for all of them.
WEFT_DECLARE_KERNEL(scan, ScanOp op, const Tensor& x, int64_t dim, bool exclusive, bool reverse, Tensor& y)
WEFT_DECLARE_KERNEL(scan_extreme, bool largest, const Tensor& x, int64_t dim, Tensor& indices)
WEFT_DECLARE_KERNEL(linear_scan, const Tensor& a, const Tensor& b, int64_t dim, bool reverse, Tensor& y)

namespace {

// A scalar scans as one element.
template <class F>
Tensor with_dim(const char* name, const Tensor& x, int64_t dim, F&& f) {
  dim = wrap_dim(dim, x.dim(), name);
  return x.dim() == 0 ? reshape(f(reshape(x, {1}), int64_t{0}), {}) : f(x, dim);
}

Tensor apply(ScanOp op, const Tensor& x, int64_t dim, ScanOptions o) {
  Tensor y = empty(x.shape(), x.is_floating() ? x.dtype() : int64, x.device());
  WEFT_KERNEL(x.device(), scan, op, x, dim, o.exclusive, o.reverse, y);
  return y;
}

// x moved by one place along dim, towards the start (or the end), 0 at the place that becomes free.
Tensor shift(const Tensor& x, int64_t dim, bool to_start) {
  std::vector<int64_t> amounts(static_cast<size_t>(2 * (x.dim() - dim)), 0);
  amounts[amounts.size() - 2] = to_start ? -1 : 1;
  amounts[amounts.size() - 1] = to_start ? 1 : -1;
  return x.shape()[dim] == 0 ? x : pad(x, amounts);
}

}  // namespace

Tensor cumsum(const Tensor& x0, int64_t dim0, ScanOptions o) {
  return with_dim("cumsum", x0, dim0, [o](const Tensor& x, int64_t dim) {
    return record("cumsum", apply(ScanOp::sum, x, dim, o), {x}, [dim, o](const Tensor& dy) -> Grads {
      return {cumsum(dy, dim, {.exclusive = o.exclusive, .reverse = !o.reverse})};
    });
  });
}

// With the product before k, p[k], and the sum over i ≥ k of dy[i] times the product between k and i, s[k]:
// dx[k] = p[k]·s[k] and s[k] = dy[k] + x[k+1]·s[k+1]. (Exclusive: y[i] holds nothing of x[i], and dy moves by one.)
Tensor cumprod(const Tensor& x0, int64_t dim0, ScanOptions o) {
  return with_dim("cumprod", x0, dim0, [o](const Tensor& x, int64_t dim) {
    return record("cumprod", apply(ScanOp::prod, x, dim, o), {x}, [x, dim, o](const Tensor& dy0) -> Grads {
      const Tensor before = cumprod(x, dim, {.exclusive = true, .reverse = o.reverse});
      const Tensor dy = o.exclusive ? shift(dy0, dim, !o.reverse) : dy0;
      return {mul(before, linear_scan(shift(x, dim, !o.reverse), dy, dim, !o.reverse))};
    });
  });
}

// dx[k] = Σ_{i ≥ k} dy[i]·exp(x[k] - y[i]) = exp(x[k] - y[k])·r[k] with r[k] = dy[k] + exp(y[k] - y[k+1])·r[k+1]. y
// never falls, so no exponential passes 1.
Tensor logcumsumexp(const Tensor& x0, int64_t dim0) {
  check(x0.is_floating(), "logcumsumexp: expected a floating tensor, got ", x0.dtype());
  return with_dim("logcumsumexp", x0, dim0, [](const Tensor& x, int64_t dim) {
    return record("logcumsumexp", apply(ScanOp::logsumexp, x, dim, {}), {x},
                  [x, dim](const Tensor& dy, const Tensor& y) -> Grads {
                    // Where y is -inf, so is x, and the gradient is 0: any finite y will do.
                    const Tensor total = masked_fill(y, eq(y, -std::numeric_limits<double>::infinity()), 0);
                    const Tensor decay = exp(clamp_max(sub(total, shift(total, dim, true)), 0));
                    const Tensor rest = linear_scan(decay, dy, dim, true);
                    return {mul(exp(sub(x, total)), rest)};
                  });
  });
}

namespace {
ValuesIndices scan_for(const char* name, bool largest, const Tensor& x0, int64_t dim0) {
  Tensor indices;
  const Tensor values = with_dim(name, x0, dim0, [&](const Tensor& x, int64_t dim) {
    indices = empty(x.shape(), int64, x.device());
    WEFT_KERNEL(x.device(), scan_extreme, largest, x, dim, indices);
    return gather(x, dim, indices);
  });
  return {values, reshape(indices, x0.shape())};
}
}  // namespace
ValuesIndices cummax(const Tensor& x, int64_t dim) { return scan_for("cummax", true, x, dim); }
ValuesIndices cummin(const Tensor& x, int64_t dim) { return scan_for("cummin", false, x, dim); }

// The gradient runs the recurrence backwards: g[t] = dy[t] + a[t+1]·g[t+1]; db = g, da[t] = g[t]·h[t-1].
Tensor linear_scan(const Tensor& a0, const Tensor& b0, int64_t dim0, bool reverse) {
  const DType dtype = promote(a0.dtype(), b0.dtype());
  check(is_floating(dtype), "linear_scan: expected floating tensors, got ", a0.dtype(), " and ", b0.dtype());
  check_same_device("linear_scan", {&a0, &b0});
  const Shape shape = broadcast_shapes(a0.shape(), b0.shape(), "linear_scan");
  check(!shape.empty(), "linear_scan: a scalar has nothing to run along");
  const int64_t dim = wrap_dim(dim0, shape.size(), "linear_scan");
  const Tensor a = expand(a0.to(dtype), shape), b = expand(b0.to(dtype), shape);
  Tensor y = empty(shape, dtype, a.device());
  WEFT_KERNEL(a.device(), linear_scan, a, b, dim, reverse, y);
  return record("linear_scan", y, {a, b}, [a, dim, reverse](const Tensor& dy, const Tensor& y) -> Grads {
    const Tensor g = linear_scan(shift(a, dim, !reverse), dy, dim, !reverse);
    return {a.requires_grad() ? mul(g, shift(y, dim, reverse)) : Tensor(), g};
  });
}

}  // namespace weft
