// The shape operations that cannot be views.
#include <weft/autograd/autograd.h>
#include <weft/ops/copy.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/kernel.h>
#include <weft/ops/shape.h>

namespace weft {

Tensor flip(const Tensor& x, const Shape& dims) {
  std::vector<bool> flipped(static_cast<size_t>(x.dim()), false);
  Shape strides = x.strides();
  int64_t offset = x.impl().offset;
  for (int64_t d : dims) {
    d = wrap_dim(d, x.dim(), "flip");
    if (x.dim() == 0) continue;
    check(!flipped[static_cast<size_t>(d)], "flip: dim ", d, " is named twice");
    flipped[static_cast<size_t>(d)] = true;
    offset += std::max<int64_t>(x.shape()[d] - 1, 0) * strides[d];
    strides[d] = -strides[d];
  }
  // Backwards strides serve to copy only: no other kernel has to know them.
  Tensor y = empty_like(x);
  if (x.numel() > 0) copy_into(as_strided_raw(x, x.shape(), strides, offset), y);
  return record("flip", y, {x}, [dims](const Tensor& dy) -> Grads { return {flip(dy, dims)}; });
}

namespace {
// One dimension, unrecorded.
Tensor roll_raw(const Tensor& x, int64_t shift, int64_t dim) {
  const int64_t n = x.shape()[dim];
  if (x.numel() == 0 || shift % n == 0) return x;
  shift = (shift % n + n) % n;
  return cat({slice(x, dim, n - shift), slice(x, dim, 0, n - shift)}, dim);
}
}  // namespace

Tensor roll(const Tensor& x, const Shape& shifts, const Shape& dims) {
  if (dims.empty()) {
    check(shifts.size() == 1, "roll: ", shifts.size(), " shifts without dims");
    return reshape(roll(reshape(x, {-1}), shifts, {0}), x.shape());
  }
  check(shifts.size() == dims.size(), "roll: ", shifts.size(), " shifts for ", dims.size(), " dims");
  Tensor y = x.detach();
  Shape back;
  for (int64_t i = 0; i < dims.size(); ++i) {
    const int64_t dim = wrap_dim(dims[i], x.dim(), "roll");
    if (x.dim() > 0) y = roll_raw(y, shifts[i], dim);
    back.push_back(-shifts[i]);
  }
  return record("roll", y, {x}, [back, dims](const Tensor& dy) -> Grads { return {roll(dy, back, dims)}; });
}

Tensor tile(const Tensor& x, const Shape& times) {
  Shape reps(static_cast<size_t>(std::max<int64_t>(x.dim() - times.size(), 0)), 1);
  for (int64_t t : times) {
    check(t >= 0, "tile: negative number of times in ", times);
    reps.push_back(t);
  }
  // [n, m] -> [1, n, 1, m] -> [r, n, s, m] -> [r·n, s·m]
  Shape apart, repeated, joined;
  const int64_t lead = reps.size() - x.dim();
  for (int64_t d = 0; d < reps.size(); ++d) {
    const int64_t n = d < lead ? 1 : x.shape()[d - lead];
    if (reps[d] != 1 && n != 1) {
      apart.push_back(1);
      repeated.push_back(reps[d]);
    }
    apart.push_back(n);
    repeated.push_back(n == 1 ? reps[d] : n);
    joined.push_back(n * reps[d]);
  }
  return reshape(expand(reshape(x, apart), repeated), joined).contiguous();
}

namespace {
// Where column - row compares to diagonal as asked. [rows, columns]
Tensor triangle(const char* op, const Tensor& x, int64_t diagonal, Tensor (*compare)(const Tensor&, const Tensor&)) {
  check(x.dim() >= 2, op, ": expected at least two dimensions, got shape ", x.shape());
  const TensorOptions options{.dtype = int64, .device = x.device()};
  const Tensor rows = arange(0, static_cast<double>(x.size(-2)), 1, options);
  const Tensor columns = arange(0, static_cast<double>(x.size(-1)), 1, options);
  return where(compare(columns, unsqueeze(add(rows, diagonal), 1)), x, Scalar(0));
}
}  // namespace

Tensor tril(const Tensor& x, int64_t diagonal) { return triangle("tril", x, diagonal, le); }
Tensor triu(const Tensor& x, int64_t diagonal) { return triangle("triu", x, diagonal, ge); }

}  // namespace weft
