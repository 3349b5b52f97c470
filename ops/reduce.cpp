#include <weft/autograd/autograd.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/kernel.h>
#include <weft/ops/reduce.h>
#include <weft/ops/reduce_op.h>
#include <weft/ops/shape.h>

#include <bit>
#include <cmath>
#include <limits>

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
  const auto reduced = dims.mask(x.dim(), "mean");
  const Shape shape = reduced_shape(x.shape(), reduced);
  // A sum of halves may be out of their range where the mean is not.
  const Tensor s = apply(ReduceOp::sum, x, shape, is_half(x.dtype()) ? float32 : x.dtype());
  const double scale = static_cast<double>(shape.numel()) / static_cast<double>(x.numel());
  const Tensor y =
      record("mean", mul(s, scale).to(x.dtype()), {x},
             [from = x.shape(), scale](const Tensor& dy) -> Grads { return {expand(mul(dy, scale), from)}; });
  return drop(y, reduced, keep);
}

namespace {
// For each element the product of the others that it is reduced with: what its gradient is made of. Products of pairs,
// of pairs of pairs and so on up to the whole, then down again, each time times the other one of the pair: without a
// division, so zeros are nothing special, and made of ops that are differentiable again.
Tensor products_of_others(const Tensor& x, const std::vector<bool>& reduced) {
  if (x.numel() == 0) return x;
  Shape order, inverse(static_cast<size_t>(x.dim()), 0);
  int64_t rows = 1;
  for (const bool want : {false, true}) {
    for (int64_t d = 0; d < x.dim(); ++d) {
      if (reduced[static_cast<size_t>(d)] != want) continue;
      if (!want) rows *= x.shape()[d];
      inverse[d] = order.size();
      order.push_back(d);
    }
  }
  const Tensor arranged = permute(x, order);
  const int64_t n = x.numel() / rows;
  auto width = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n)));
  Tensor t = pad(reshape(arranged, {rows, n}), {0, width - n}, 1);
  Tensors pairs;  // [rows, width / 2, 2], halving
  for (; width > 1; width /= 2) {
    pairs.push_back(reshape(t, {rows, width / 2, 2}));
    t = mul(select(pairs.back(), -1, 0), select(pairs.back(), -1, 1));
  }
  Tensor others = ones_like(t.detach());  // [rows, 1]
  for (auto p = pairs.rbegin(); p != pairs.rend(); ++p)
    others = reshape(mul(unsqueeze(others, -1), flip(*p, {-1})), {rows, -1});
  return permute(reshape(slice(others, 1, 0, n), arranged.shape()), inverse);
}
}  // namespace

Tensor prod(const Tensor& x, const Dims& dims, bool keep) {
  const auto reduced = dims.mask(x.dim(), "prod");
  const Tensor y = apply(ReduceOp::prod, x, reduced_shape(x.shape(), reduced), sum_dtype(x));
  return drop(record("prod", y, {x},
                     [x, reduced](const Tensor& dy) -> Grads {
                       const Tensor in = is_half(x.dtype()) ? x.to(float32) : x;
                       return {mul(dy, products_of_others(in, reduced))};
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

Tensor count_nonzero(const Tensor& x, const Dims& dims, bool keep) { return sum(ne(x, 0), dims, keep); }

// --- deviation and norms
// Halves are computed in float32 from end to end.

Tensor var(const Tensor& x, const Dims& dims, double correction, bool keep) {
  check(x.is_floating(), "var: expected a floating tensor, got ", x.dtype());
  if (is_half(x.dtype())) return var(x.to(float32), dims, correction, keep).to(x.dtype());
  const auto reduced = dims.mask(x.dim(), "var");
  const double rows = static_cast<double>(reduced_shape(x.shape(), reduced).numel());
  const double n = static_cast<double>(x.numel()) / rows;
  const double scale = 1 / std::max(n - correction, 0.0);
  const Tensor in = x.detach();
  const Tensor y = mul(sum(square(sub(in, mean(in, dims, keepdim))), dims, keepdim), scale);
  return drop(record("var", y, {x},
                     [x, dims, scale](const Tensor& dy) -> Grads {
                       return {mul(mul(dy, 2 * scale), sub(x, mean(x, dims, keepdim)))};
                     }),
              reduced, keep);
}

namespace {
// a / b, 0 where b is 0.
Tensor safe_div(const Tensor& a, const Tensor& b) {
  const Tensor zero = eq(b, 0);
  return where(zero, Scalar(0.0), div(a, where(zero, Scalar(1.0), b)));
}
}  // namespace

Tensor std(const Tensor& x, const Dims& dims, double correction, bool keep) {
  check(x.is_floating(), "std: expected a floating tensor, got ", x.dtype());
  if (is_half(x.dtype())) return std(x.to(float32), dims, correction, keep).to(x.dtype());
  const Tensor v = var(x, dims, correction, keep);
  return record("std", sqrt(v.detach()), {v},
                [](const Tensor& dy, const Tensor& y) -> Grads { return {safe_div(mul(dy, 0.5), y)}; });
}

namespace {

// (Σ |x|^p)^(1/p) with reduced dimensions kept.
Tensor norm_value(const Tensor& x, double p, const Dims& dims) {
  if (p == 0) return count_nonzero(x, dims, keepdim).to(x.dtype());
  if (p == 1) return sum(abs(x), dims, keepdim);
  if (p == 2) return sqrt(sum(square(x), dims, keepdim));
  return pow(sum(pow(abs(x), p), dims, keepdim), 1 / p);
}

Tensor norm_gradient(const Tensor& x, const Tensor& y, double p) {
  if (p == 0) return zeros_like(x);
  if (p == 1) return sign(x);
  if (p == 2) return safe_div(x, y);
  // sign(x)·(|x| / y)^(p-1)
  const Tensor zero = eq(x, 0);
  const Tensor ratio = where(zero, Scalar(1.0), safe_div(abs(x), y));
  return mul(sign(x), pow(ratio, p - 1));
}

}  // namespace

Tensor norm(const Tensor& x, double p, const Dims& dims, bool keep) {
  check(x.is_floating(), "norm: expected a floating tensor, got ", x.dtype());
  check(!std::isnan(p), "norm: p is NaN");
  if (std::isinf(p)) return p > 0 ? amax(abs(x), dims, keep) : amin(abs(x), dims, keep);
  if (is_half(x.dtype())) return norm(x.to(float32), p, dims, keep).to(x.dtype());
  const auto reduced = dims.mask(x.dim(), "norm");
  const Tensor y =
      record("norm", norm_value(x.detach(), p, dims), {x},
             [x, p](const Tensor& dy, const Tensor& y) -> Grads { return {mul(dy, norm_gradient(x, y, p))}; });
  return drop(y, reduced, keep);
}

Tensor logsumexp(const Tensor& x, const Dims& dims, bool keep) {
  check(x.is_floating(), "logsumexp: expected a floating tensor, got ", x.dtype());
  if (is_half(x.dtype())) return logsumexp(x.to(float32), dims, keep).to(x.dtype());
  const auto reduced = dims.mask(x.dim(), "logsumexp");
  const Tensor in = x.detach();
  Tensor y;
  if (x.numel() == 0) {  // no largest element: the logarithm of 0, if of anything
    y = log(sum(in, dims, keepdim));
  } else {
    const Tensor most = amax(in, dims, keepdim);
    const Tensor shift = where(isfinite(most), most, Scalar(0.0));
    y = add(log(sum(exp(sub(in, shift)), dims, keepdim)), shift);
  }
  const Tensor z = record("logsumexp", y, {x}, [x](const Tensor& dy, const Tensor& y) -> Grads {
    const Tensor share = exp(sub(x, where(eq(y, -std::numeric_limits<double>::infinity()), Scalar(0.0), y)));
    return {mul(dy, share)};
  });
  return drop(z, reduced, keep);
}

Tensor Tensor::sum() const { return weft::sum(*this); }
Tensor Tensor::mean() const { return weft::mean(*this); }

}  // namespace weft
