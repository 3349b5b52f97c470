// Kernels find positions only. The values are gathered from there, which makes them differentiable to every order.
#include <weft/autograd/autograd.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/kernel.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>
#include <weft/ops/sort.h>

namespace weft {

// indices: contiguous int64. x: any strides; for arg_extreme indices has x's shape with size 1 at dim.
WEFT_DECLARE_KERNEL(arg_extreme, bool largest, const Tensor& x, int64_t dim, Tensor& indices)
// x: [rows..., n] contiguous; indices: [rows..., k].
WEFT_DECLARE_KERNEL(topk, const Tensor& x, bool largest, bool sorted, Tensor& indices)
WEFT_DECLARE_KERNEL(argsort, const Tensor& x, bool descending, Tensor& indices)
// sequence: [rows, n] (or 1 row for all), values: [rows, m], positions: [rows, m], contiguous.
WEFT_DECLARE_KERNEL(searchsorted, const Tensor& sequence, const Tensor& values, bool right, Tensor& positions)

namespace {

Tensor at_least_1d(const Tensor& x) { return x.dim() == 0 ? reshape(x, {1}) : x; }

// The index of the extreme, with size 1 at dim.
Tensor find_extreme(const char* name, bool largest, const Tensor& x, int64_t dim) {
  Shape shape = x.shape();
  shape[dim] = 1;
  check(x.shape()[dim] > 0 || shape.numel() == 0, name, ": nothing to choose from in shape ", x.shape());
  Tensor indices = empty(shape, int64, x.device());
  WEFT_KERNEL(x.device(), arg_extreme, largest, x, dim, indices);
  return indices;
}

Tensor arg_extreme(const char* name, bool largest, const Tensor& x, std::optional<int64_t> dim, bool keep) {
  if (!dim) {
    const Tensor i = reshape(find_extreme(name, largest, flatten(x.detach()), 0), {});
    return keep ? reshape(i, Shape(static_cast<size_t>(x.dim()), 1)) : i;
  }
  const int64_t d = wrap_dim(*dim, x.dim(), name);
  const Tensor i = find_extreme(name, largest, at_least_1d(x.detach()), d);
  return x.dim() == 0 ? reshape(i, {}) : keep ? i : squeeze(i, d);
}

// Drops dim (of size 1) unless it is kept, and gives a scalar its shape back.
ValuesIndices finish(const ValuesIndices& r, const Tensor& x, int64_t dim, bool keep) {
  if (x.dim() == 0) return {reshape(r.values, {}), reshape(r.indices, {})};
  return keep ? r : ValuesIndices{squeeze(r.values, dim), squeeze(r.indices, dim)};
}

ValuesIndices extreme(const char* name, bool largest, const Tensor& x0, int64_t dim, bool keep) {
  dim = wrap_dim(dim, x0.dim(), name);
  const Tensor x = at_least_1d(x0), indices = find_extreme(name, largest, x, dim);
  return finish({gather(x, dim, indices), indices}, x0, dim, keep);
}

// x as the row kernels want it.
Tensor rows_last(const Tensor& x, int64_t dim) { return movedim(x.detach(), dim, -1).contiguous(); }

}  // namespace

Tensor argmax(const Tensor& x, std::optional<int64_t> dim, bool keep) {
  return arg_extreme("argmax", true, x, dim, keep);
}
Tensor argmin(const Tensor& x, std::optional<int64_t> dim, bool keep) {
  return arg_extreme("argmin", false, x, dim, keep);
}
ValuesIndices max(const Tensor& x, int64_t dim, bool keep) { return extreme("max", true, x, dim, keep); }
ValuesIndices min(const Tensor& x, int64_t dim, bool keep) { return extreme("min", false, x, dim, keep); }

ValuesIndices topk(const Tensor& x0, int64_t k, int64_t dim, bool largest, bool sorted) {
  dim = wrap_dim(dim, x0.dim(), "topk");
  const Tensor x = at_least_1d(x0);
  check(k >= 0 && k <= x.shape()[dim], "topk: k = ", k, " is out of range for dim ", dim, " of ", x0.shape());
  const Tensor rows = rows_last(x, dim);
  Shape shape = rows.shape();
  shape.back() = k;
  Tensor indices = empty(shape, int64, x.device());
  WEFT_KERNEL(x.device(), topk, rows, largest, sorted, indices);
  indices = movedim(indices, -1, dim);
  return finish({gather(x, dim, indices), indices}, x0, dim, true);
}

ValuesIndices kthvalue(const Tensor& x, int64_t k, int64_t dim, bool keep) {
  dim = wrap_dim(dim, x.dim(), "kthvalue");
  check(k >= 1 && k <= (x.dim() == 0 ? 1 : x.size(dim)), "kthvalue: k = ", k, " is out of range for dim ", dim, " of ",
        x.shape());
  if (x.dim() == 0) return topk(x, k, dim, false);
  const Tensor indices = narrow(topk(x.detach(), k, dim, false).indices, dim, k - 1, 1);
  return finish({gather(x, dim, indices), indices}, x, dim, keep);
}

Tensor argsort(const Tensor& x0, int64_t dim, bool descending) {
  dim = wrap_dim(dim, x0.dim(), "argsort");
  const Tensor rows = rows_last(at_least_1d(x0), dim);
  Tensor indices = empty(rows.shape(), int64, x0.device());
  WEFT_KERNEL(x0.device(), argsort, rows, descending, indices);
  return reshape(movedim(indices, -1, dim), x0.shape());
}

ValuesIndices sort(const Tensor& x, int64_t dim, bool descending) {
  const Tensor indices = argsort(x, wrap_dim(dim, x.dim(), "sort"), descending);
  return {gather(x, dim, indices), indices};
}

Tensor searchsorted(const Tensor& sequence0, const Tensor& values0, bool right) {
  check(sequence0.dim() >= 1, "searchsorted: expected a sequence of one dimension or more");
  check_same_device("searchsorted", {&sequence0, &values0});
  const bool shared = sequence0.dim() == 1;
  check(shared || (sequence0.dim() == values0.dim() &&
                   std::equal(sequence0.shape().begin(), sequence0.shape().end() - 1, values0.shape().begin())),
        "searchsorted: sequence ", sequence0.shape(), " and values ", values0.shape(),
        " may differ in the last dimension only");
  const DType dtype = promote(sequence0.dtype(), values0.dtype());
  const Tensor sequence = sequence0.detach().to(dtype).contiguous(), values = values0.detach().to(dtype).contiguous();
  Tensor positions = empty(values.shape(), int64, values.device());
  const int64_t n = sequence.size(-1), rows = shared ? 1 : sequence.numel() / std::max<int64_t>(n, 1);
  if (values.numel() == 0) return positions;
  if (n == 0) return zeros_like(positions);
  Tensor out = reshape(positions, {rows, -1});
  WEFT_KERNEL(values.device(), searchsorted, reshape(sequence, {rows, n}), reshape(values, {rows, -1}), right, out);
  return positions;
}

Unique unique(const Tensor& x) {
  const auto [sorted, from] = sort(flatten(x));
  const int64_t n = sorted.numel();
  if (n == 0) return {sorted, empty(x.shape(), int64, x.device()), empty({0}, int64, x.device())};
  // An element is new where it differs from the one before; how many came before says which group it is in.
  const Tensor changes = ne(slice(sorted, 0, 1), slice(sorted, 0, 0, n - 1));
  const Tensor is_new = pad(changes, {1, 0}, true);
  const Tensor starts = flatten(nonzero(is_new));
  const Tensor group = sub(cumsum(is_new, 0), 1);
  return {index_select(sorted, 0, starts), reshape(scatter(zeros_like(from), 0, from, group), x.shape()),
          sub(pad(slice(starts, 0, 1), {0, 1}, n), starts)};
}

// --- drawing ---------------------------------------------------------------------------------------------------------

Tensor multinomial(const Tensor& weights, int64_t num_samples, bool replacement, Generator& g) {
  check(weights.dim() == 1 || weights.dim() == 2, "multinomial: expected weights [n] or [rows, n], got ",
        weights.shape());
  check(weights.is_floating(), "multinomial: expected floating weights, got ", weights.dtype());
  const int64_t n = weights.size(-1);
  check(num_samples > 0, "multinomial: expected num_samples > 0, got ", num_samples);
  check(n > 0, "multinomial: nothing to draw from in shape ", weights.shape());
  const Tensor w = weights.detach().to(float64);
  check(all(logical_and(isfinite(w), ge(w, 0))).item<int64_t>() != 0,
        "multinomial: weights must be finite and not negative");
  const int64_t wanted = replacement ? 1 : num_samples;
  check(all(ge(sum(gt(w, 0), -1), wanted)).item<int64_t>() != 0, "multinomial: a row has fewer than ", wanted,
        " weights above 0");
  Shape shape = w.shape();
  if (replacement || num_samples == 1) {
    // A uniform number falls into the piece of the cumulative sum that belongs to the sample; the last is exactly 1.
    shape.back() = num_samples;
    const Tensor total = cumsum(w, -1), u = rand(shape, {.dtype = float64, .device = w.device()}, g);
    return searchsorted(div(total, narrow(total, -1, n - 1, 1)), u, true);
  }
  // Exponential clocks that run at the weights' rates: the first ones to ring are a draw without replacement.
  const Tensor u = rand(shape, {.dtype = float64, .device = w.device()}, g);
  return topk(div(neg(log1p(neg(u))), w), num_samples, -1, false).indices;
}

Tensor randperm(int64_t n, Generator& g) {
  check(n >= 0, "randperm: n must not be negative, got ", n);
  return argsort(randint(0, INT64_MAX, {n}, {.dtype = int64}, g));
}

}  // namespace weft
