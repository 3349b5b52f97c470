#include <weft/autograd/autograd.h>
#include <weft/ops/copy.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/kernel.h>
#include <weft/ops/shape.h>

namespace weft {

// --- views -----------------------------------------------------------------------------------------------------------

namespace {

// Strides that give x's memory another shape without a copy; false where there are none. Walks both shapes from the
// end, matching groups of x's dimensions that are contiguous with each other.
bool view_strides(const Tensor& x, const Shape& shape, Shape& strides) {
  strides = Shape(static_cast<size_t>(shape.size()), 0);
  if (x.numel() == 0) {
    strides = shape.contiguous_strides();
    return true;
  }
  int64_t out = shape.size() - 1;
  int64_t group = 1, filled = 1, base = 1;
  const Shape &xs = x.shape(), &xt = x.strides();
  if (xs.empty()) base = 1;
  bool fresh = true;
  for (int64_t d = xs.size() - 1; d >= 0; --d) {
    if (fresh) base = xt[d], fresh = false;
    group *= xs[d];
    const bool ends = d == 0 || (xs[d - 1] != 1 && xt[d - 1] != group * base);
    if (!ends) continue;
    while (out >= 0 && (filled < group || shape[out] == 1)) {
      strides[out] = filled * base;
      filled *= shape[out--];
    }
    if (filled != group) return false;
    group = filled = 1, fresh = true;
  }
  for (; out >= 0; --out) strides[out] = 1;
  return true;
}

Shape infer_size(const Shape& shape, int64_t numel, const Shape& from) {
  Shape out = shape;
  int64_t known = 1, unknown = -1;
  for (int64_t i = 0; i < out.size(); ++i) {
    if (out[i] == -1) {
      check(unknown < 0, "reshape: only one size can be -1, got ", shape);
      unknown = i;
    } else {
      check(out[i] >= 0, "reshape: negative size in ", shape);
      known *= out[i];
    }
  }
  if (unknown >= 0) {
    check(known > 0 && numel % known == 0, "reshape: cannot make ", shape, " from ", from);
    out[unknown] = numel / known;
  }
  check(out.numel() == numel, "reshape: cannot make ", shape, " from ", from);
  return out;
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& wanted) {
  const Shape shape = infer_size(wanted, x.numel(), x.shape());
  if (shape == x.shape()) return x;
  Shape strides;
  if (!view_strides(x, shape, strides)) return reshape(x.clone(), shape);
  return record("reshape", as_strided_raw(x, shape, strides, x.impl().offset), {x},
                [from = x.shape()](const Tensor& dy) -> Grads { return {reshape(dy, from)}; });
}

Tensor flatten(const Tensor& x, int64_t start, int64_t end) {
  if (x.dim() == 0) return reshape(x, {1});
  start = wrap_dim(start, x.dim(), "flatten"), end = wrap_dim(end, x.dim(), "flatten");
  check(start <= end, "flatten: start_dim ", start, " is after end_dim ", end);
  Shape shape;
  int64_t n = 1;
  for (int64_t d = 0; d < x.dim(); ++d) {
    n = d >= start && d <= end ? n * x.shape()[d] : x.shape()[d];
    if (d < start || d >= end) {
      shape.push_back(n);
      n = 1;
    }
  }
  return reshape(x, shape);
}

Tensor unflatten(const Tensor& x, int64_t dim, const Shape& sizes) {
  dim = wrap_dim(dim, x.dim(), "unflatten");
  Shape shape(x.shape().begin(), x.shape().begin() + dim);
  for (int64_t s : infer_size(sizes, x.size(dim), {x.size(dim)})) shape.push_back(s);
  for (int64_t d = dim + 1; d < x.dim(); ++d) shape.push_back(x.shape()[d]);
  return reshape(x, shape);
}

Tensor permute(const Tensor& x, const Shape& dims) {
  check(dims.size() == x.dim(), "permute: ", dims.size(), " dims given for shape ", x.shape());
  Shape shape, strides, inverse(static_cast<size_t>(dims.size()), -1);
  for (int64_t i = 0; i < dims.size(); ++i) {
    const int64_t d = wrap_dim(dims[i], x.dim(), "permute");
    check(inverse[d] < 0, "permute: dim ", d, " is repeated in ", dims);
    inverse[d] = i;
    shape.push_back(x.shape()[d]);
    strides.push_back(x.strides()[d]);
  }
  return record("permute", as_strided_raw(x, shape, strides, x.impl().offset), {x},
                [inverse](const Tensor& dy) -> Grads { return {permute(dy, inverse)}; });
}

Tensor transpose(const Tensor& x, int64_t a, int64_t b) {
  a = wrap_dim(a, x.dim(), "transpose"), b = wrap_dim(b, x.dim(), "transpose");
  if (a == b) return x;
  Shape shape = x.shape(), strides = x.strides();
  std::swap(shape[a], shape[b]);
  std::swap(strides[a], strides[b]);
  return record("transpose", as_strided_raw(x, shape, strides, x.impl().offset), {x},
                [a, b](const Tensor& dy) -> Grads { return {transpose(dy, a, b)}; });
}

Tensor movedim(const Tensor& x, int64_t from, int64_t to) {
  from = wrap_dim(from, x.dim(), "movedim"), to = wrap_dim(to, x.dim(), "movedim");
  if (from == to) return x;
  Shape dims;
  for (int64_t d = 0; d < x.dim(); ++d) {
    if (d != from) dims.push_back(d);
  }
  dims.insert(to, from);
  return permute(x, dims);
}

Tensor unsqueeze(const Tensor& x, int64_t dim) {
  dim = wrap_dim(dim, x.dim() + 1, "unsqueeze");
  Shape shape = x.shape(), strides = x.strides();
  strides.insert(dim, dim < x.dim() ? shape[dim] * strides[dim] : 1);
  shape.insert(dim, 1);
  return record("unsqueeze", as_strided_raw(x, shape, strides, x.impl().offset), {x},
                [dim](const Tensor& dy) -> Grads { return {squeeze(dy, dim)}; });
}

Tensor squeeze(const Tensor& x, int64_t dim) {
  dim = wrap_dim(dim, x.dim(), "squeeze");
  if (x.dim() == 0 || x.shape()[dim] != 1) return x;
  Shape shape = x.shape(), strides = x.strides();
  shape.erase(dim);
  strides.erase(dim);
  return record("squeeze", as_strided_raw(x, shape, strides, x.impl().offset), {x},
                [dim](const Tensor& dy) -> Grads { return {unsqueeze(dy, dim)}; });
}

Tensor squeeze(const Tensor& x) {
  Tensor y = x;
  for (int64_t d = x.dim() - 1; d >= 0; --d) y = squeeze(y, d);
  return y;
}

Tensor expand(const Tensor& x, const Shape& wanted) {
  check(wanted.size() >= x.dim(), "expand: cannot expand ", x.shape(), " to fewer dimensions ", wanted);
  Shape shape = wanted, strides(static_cast<size_t>(wanted.size()), 0);
  const int64_t lead = wanted.size() - x.dim();
  for (int64_t d = 0; d < wanted.size(); ++d) {
    const int64_t have = d < lead ? 1 : x.shape()[d - lead];
    if (shape[d] == -1 && d >= lead) shape[d] = have;
    check(shape[d] >= 0 && (have == shape[d] || have == 1), "expand: cannot expand ", x.shape(), " to ", wanted);
    strides[d] = d >= lead && have == shape[d] ? x.strides()[d - lead] : 0;
  }
  if (shape == x.shape()) return x;
  // The sweep sums the gradient back to x's shape, as for any broadcast.
  return record("expand", as_strided_raw(x, shape, strides, x.impl().offset), {x},
                [](const Tensor& dy) -> Grads { return {dy}; });
}

namespace {
// The reverse of slice: x set into zeros of the given size along dim.
Tensor unslice(const Tensor& x, int64_t dim, int64_t size, int64_t start, int64_t step) {
  Shape shape = x.shape();
  shape[dim] = size;
  Tensor y = zeros(shape, {.dtype = x.dtype(), .device = x.device()});
  Shape strides = y.strides();
  const int64_t offset = start * strides[dim];
  strides[dim] *= step;
  Tensor window = as_strided_raw(y, x.shape(), strides, offset);
  copy_into(x, window);
  const int64_t end = start + (x.shape()[dim] - 1) * step + 1;
  return record("unslice", y, {x},
                [dim, start, end, step](const Tensor& dy) -> Grads { return {slice(dy, dim, start, end, step)}; });
}
}  // namespace

Tensor slice(const Tensor& x, int64_t dim, int64_t start, int64_t end, int64_t step) {
  check(x.dim() > 0, "slice: a scalar has no dimensions");
  dim = wrap_dim(dim, x.dim(), "slice");
  check(step > 0, "slice: step must be positive, got ", step);
  const int64_t n = x.shape()[dim];
  auto clamp_position = [n](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + n : i, 0, n); };
  start = clamp_position(start), end = std::max(clamp_position(end), start);
  if (start == 0 && end == n && step == 1) return x;
  Shape shape = x.shape(), strides = x.strides();
  shape[dim] = (end - start + step - 1) / step;
  const int64_t offset = x.impl().offset + start * strides[dim];
  strides[dim] *= step;
  return record("slice", as_strided_raw(x, shape, strides, offset), {x},
                [dim, n, start, step](const Tensor& dy) -> Grads { return {unslice(dy, dim, n, start, step)}; });
}

Tensor narrow(const Tensor& x, int64_t dim, int64_t start, int64_t length) {
  const int64_t n = x.size(dim);
  if (start < 0) start += n;
  check(x.dim() > 0 && length >= 0 && start >= 0 && start + length <= n, "narrow: ", start, " to ", start + length,
        " is out of range for size ", n);
  return slice(x, dim, start, start + length);
}

Tensor select(const Tensor& x, int64_t dim, int64_t index) {
  check(x.dim() > 0, "select: a scalar cannot be indexed");
  dim = wrap_dim(dim, x.dim(), "select");
  const int64_t n = x.shape()[dim];
  check(index >= -n && index < n, "select: index ", index, " is out of range for dim ", dim, " of ", x.shape());
  if (index < 0) index += n;
  return squeeze(slice(x, dim, index, index + 1), dim);
}

namespace {
Tensor undiagonal(const Tensor& x, const Shape& shape, int64_t offset, int64_t dim1, int64_t dim2);
}

Tensor diagonal(const Tensor& x, int64_t offset, int64_t dim1, int64_t dim2) {
  dim1 = wrap_dim(dim1, x.dim(), "diagonal"), dim2 = wrap_dim(dim2, x.dim(), "diagonal");
  check(x.dim() >= 2 && dim1 != dim2, "diagonal: needs two different dimensions of ", x.shape());
  const int64_t rows = x.shape()[dim1], cols = x.shape()[dim2];
  const int64_t n = std::max<int64_t>(0, offset >= 0 ? std::min(rows, cols - offset) : std::min(rows + offset, cols));
  Shape shape = x.shape(), strides = x.strides();
  const int64_t start = x.impl().offset + (n == 0 ? 0 : offset >= 0 ? offset * strides[dim2] : -offset * strides[dim1]);
  const int64_t step = strides[dim1] + strides[dim2];
  for (int64_t d : {std::max(dim1, dim2), std::min(dim1, dim2)}) shape.erase(d), strides.erase(d);
  shape.push_back(n);
  strides.push_back(step);
  return record("diagonal", as_strided_raw(x, shape, strides, start), {x},
                [from = x.shape(), offset, dim1, dim2](const Tensor& dy) -> Grads {
                  return {undiagonal(dy, from, offset, dim1, dim2)};
                });
}

namespace {
Tensor undiagonal(const Tensor& x, const Shape& shape, int64_t offset, int64_t dim1, int64_t dim2) {
  Tensor y = zeros(shape, {.dtype = x.dtype(), .device = x.device()});
  Tensor window = diagonal(y, offset, dim1, dim2);
  copy_into(x, window);
  return record("undiagonal", y, {x},
                [offset, dim1, dim2](const Tensor& dy) -> Grads { return {diagonal(dy, offset, dim1, dim2)}; });
}
}  // namespace

Tensors broadcast_tensors(const Tensors& xs) {
  Shape shape;
  for (const Tensor& x : xs) shape = broadcast_shapes(shape, x.shape(), "broadcast_tensors");
  Tensors out;
  for (const Tensor& x : xs) out.push_back(expand(x, shape));
  return out;
}

Tensors meshgrid(const Tensors& xs, const std::string& indexing) {
  check(indexing == "ij" || indexing == "xy", "meshgrid: indexing must be ij or xy, got '", indexing, "'");
  Shape shape;
  for (const Tensor& x : xs) {
    check(x.dim() <= 1, "meshgrid: expected 1-D tensors, got shape ", x.shape());
    shape.push_back(x.numel());
  }
  Tensors out;
  for (int64_t i = 0; i < shape.size(); ++i) {
    Shape column(static_cast<size_t>(shape.size()), 1);
    column[i] = shape[i];
    const Tensor grid = expand(reshape(xs[static_cast<size_t>(i)], column), shape);
    out.push_back(indexing == "xy" && shape.size() >= 2 ? transpose(grid, 0, 1) : grid);
  }
  return out;
}

namespace {
// The reverse of unfold: adds windows [..., windows along dim, ..., size] up to the n elements they came from.
Tensor fold(const Tensor& x, int64_t dim, int64_t n, int64_t step) {
  const int64_t windows = x.shape()[dim], size = x.size(-1);
  Shape shape(x.shape().begin(), x.shape().end() - 1);
  shape[dim] = n;
  Tensor y = zeros(shape, {.dtype = is_half(x.dtype()) ? float32 : x.dtype(), .device = x.device()});
  Shape strides = y.strides();
  strides.push_back(strides[dim]);
  strides[dim] *= step;
  // The first step elements of all windows do not overlap, nor the next, ...: one addition for each such part.
  for (int64_t start = 0; start < size && windows > 0; start += step) {
    const Tensor part = slice(x.detach(), -1, start, std::min(start + step, size));
    Tensor place = as_strided_raw(y, part.shape(), strides, start * strides.back());
    const NoGrad guard;
    copy_into(start == 0 ? part : add(place, part), place);
  }
  return record("fold", y.to(x.dtype()), {x},
                [dim, size, step](const Tensor& dy) -> Grads { return {unfold(dy, dim, size, step)}; });
}
}  // namespace

Tensor unfold(const Tensor& x, int64_t dim, int64_t size, int64_t step) {
  check(x.dim() > 0, "unfold: a scalar has no dimensions");
  dim = wrap_dim(dim, x.dim(), "unfold");
  const int64_t n = x.shape()[dim];
  check(step > 0, "unfold: step must be positive, got ", step);
  check(size >= 0 && size <= n, "unfold: windows of ", size, " elements do not fit dim ", dim, " of ", x.shape());
  Shape shape = x.shape(), strides = x.strides();
  shape[dim] = (n - size) / step + 1;
  shape.push_back(size);
  strides.push_back(strides[dim]);
  strides[dim] *= step;
  return record("unfold", as_strided_raw(x, shape, strides, x.impl().offset), {x},
                [dim, n, step](const Tensor& dy) -> Grads { return {fold(dy, dim, n, step)}; });
}

// --- joining and splitting -------------------------------------------------------------------------------------------

Tensor cat(const Tensors& xs, int64_t dim) {
  check(!xs.empty(), "cat: expected at least one tensor");
  const Tensor& first = xs[0];
  check(first.dim() > 0, "cat: a scalar cannot be joined; use stack");
  dim = wrap_dim(dim, first.dim(), "cat");
  Shape shape = first.shape();
  DType dtype = first.dtype();
  std::vector<int64_t> sizes{first.shape()[dim]};
  for (size_t i = 1; i < xs.size(); ++i) {
    Shape other = xs[i].shape();
    check_same_device("cat", {&first, &xs[i]});
    check(other.size() == shape.size(), "cat: tensor ", i, " has shape ", other, ", the first ", first.shape());
    sizes.push_back(other[dim]);
    shape[dim] += other[dim];
    other[dim] = first.shape()[dim];
    check(other == first.shape(), "cat: tensor ", i, " has shape ", xs[i].shape(), ", the first ", first.shape(),
          "; they may differ in dim ", dim, " only");
    dtype = promote(dtype, xs[i].dtype());
  }
  Tensor y = empty(shape, dtype, first.device());
  int64_t at = 0;
  for (size_t i = 0; i < xs.size(); ++i) {
    Tensor window = as_strided_raw(y, xs[i].shape(), y.strides(), at * y.strides()[dim]);
    copy_into(xs[i], window);
    at += sizes[i];
  }
  return record("cat", y, xs, [sizes, dim](const Tensor& dy) -> Grads { return split(dy, sizes, dim); });
}

Tensor detail::joined(const Tensors& xs, int64_t dim) {
  const Tensor& first = xs[0];
  if (xs.size() == 1) return first;
  if (grad_enabled()) return cat(xs, dim);
  dim = wrap_dim(dim, first.dim(), "cat");
  int64_t end = first.impl().offset, total = 0;
  for (const Tensor& x : xs) {
    if (x.impl().storage != first.impl().storage || x.dtype() != first.dtype() || x.strides() != first.strides() ||
        x.impl().offset != end)
      return cat(xs, dim);
    end += x.size(dim) * x.strides()[dim], total += x.size(dim);
  }
  Shape shape = first.shape();
  shape[dim] = total;
  return as_strided_raw(first, shape, first.strides(), first.impl().offset);
}

Tensor stack(const Tensors& xs, int64_t dim) {
  check(!xs.empty(), "stack: expected at least one tensor");
  Tensors rows;
  for (size_t i = 0; i < xs.size(); ++i) {
    check(xs[i].shape() == xs[0].shape(), "stack: tensor ", i, " has shape ", xs[i].shape(), ", the first ",
          xs[0].shape());
    rows.push_back(unsqueeze(xs[i], dim));
  }
  return cat(rows, wrap_dim(dim, xs[0].dim() + 1, "stack"));
}

Tensors split(const Tensor& x, const std::vector<int64_t>& sizes, int64_t dim) {
  check(x.dim() > 0, "split: a scalar cannot be split");
  dim = wrap_dim(dim, x.dim(), "split");
  int64_t total = 0;
  Tensors parts;
  for (int64_t n : sizes) {
    check(n >= 0, "split: negative size ", n);
    Shape shape = x.shape();
    shape[dim] = n;
    parts.push_back(as_strided_raw(x, shape, x.strides(), x.impl().offset + total * x.strides()[dim]));
    total += n;
  }
  check(total == x.shape()[dim], "split: the sizes add up to ", total, ", dim ", dim, " of ", x.shape(), " has ",
        x.shape()[dim]);
  const Tensors out =
      record("split", parts, {x}, [dim](const Tensors& dy) -> Grads { return {detail::joined(dy, dim)}; });
  detail::will_join(out, dim);
  return out;
}

Tensors split(const Tensor& x, int64_t size, int64_t dim) {
  check(size > 0, "split: size must be positive, got ", size);
  std::vector<int64_t> sizes;
  for (int64_t rest = x.size(dim); rest > 0; rest -= size) sizes.push_back(std::min(size, rest));
  if (sizes.empty()) sizes.push_back(0);
  return split(x, sizes, dim);
}

Tensors chunk(const Tensor& x, int64_t n, int64_t dim) {
  check(n > 0, "chunk: expected a positive number of chunks, got ", n);
  return split(x, std::max<int64_t>((x.size(dim) + n - 1) / n, 1), dim);
}

Tensors unbind(const Tensor& x, int64_t dim) {
  check(x.dim() > 0, "unbind: a scalar has no dimensions");
  dim = wrap_dim(dim, x.dim(), "unbind");
  Tensors out;
  for (const Tensor& part : split(x, std::vector<int64_t>(static_cast<size_t>(x.shape()[dim]), 1), dim))
    out.push_back(squeeze(part, dim));
  return out;
}

// --- padding ---------------------------------------------------------------------------------------------------------

Tensor pad(const Tensor& x, const std::vector<int64_t>& amounts, Scalar value) {
  const auto pairs = static_cast<int64_t>(amounts.size() / 2);
  check(amounts.size() % 2 == 0 && pairs <= x.dim(), "pad: ", amounts.size(), " amounts for shape ", x.shape());
  Shape shape = x.shape();
  Tensor inside = x;  // x without what negative amounts crop
  std::vector<int64_t> back(amounts.size());
  for (int64_t i = 0; i < pairs; ++i) {
    const int64_t d = x.dim() - 1 - i, before = amounts[static_cast<size_t>(2 * i)],
                  after = amounts[static_cast<size_t>(2 * i + 1)];
    shape[d] += before + after;
    check(shape[d] >= 0, "pad: ", before, " and ", after, " crop more than dim ", d, " of ", x.shape(), " has");
    const int64_t from = std::max<int64_t>(-before, 0), to = x.shape()[d] - std::max<int64_t>(-after, 0);
    inside = slice(inside.detach(), d, std::min(from, x.shape()[d]), std::max<int64_t>(to, 0));
    back[static_cast<size_t>(2 * i)] = -before, back[static_cast<size_t>(2 * i + 1)] = -after;
  }
  Tensor y = full(shape, value, {.dtype = x.dtype(), .device = x.device()});
  int64_t offset = 0;
  for (int64_t i = 0; i < pairs; ++i) {
    const int64_t d = x.dim() - 1 - i;
    offset += std::max<int64_t>(amounts[static_cast<size_t>(2 * i)], 0) * y.strides()[d];
  }
  if (inside.numel() > 0) {
    Tensor window = as_strided_raw(y, inside.shape(), y.strides(), offset);
    copy_into(inside, window);
  }
  return record("pad", y, {x}, [back](const Tensor& dy) -> Grads { return {pad(dy, back)}; });
}

// --- methods ---------------------------------------------------------------------------------------------------------

Tensor Tensor::reshape(const Shape& s) const { return weft::reshape(*this, s); }
Tensor Tensor::flatten(int64_t a, int64_t b) const { return weft::flatten(*this, a, b); }
Tensor Tensor::unflatten(int64_t d, const Shape& s) const { return weft::unflatten(*this, d, s); }
Tensor Tensor::permute(const Shape& d) const { return weft::permute(*this, d); }
Tensor Tensor::transpose(int64_t a, int64_t b) const { return weft::transpose(*this, a, b); }
Tensor Tensor::t() const {
  check(dim() == 2, "t: expected a matrix, got shape ", shape());
  return weft::transpose(*this, 0, 1);
}
Tensor Tensor::movedim(int64_t a, int64_t b) const { return weft::movedim(*this, a, b); }
Tensor Tensor::unsqueeze(int64_t d) const { return weft::unsqueeze(*this, d); }
Tensor Tensor::squeeze(int64_t d) const { return weft::squeeze(*this, d); }
Tensor Tensor::squeeze() const { return weft::squeeze(*this); }
Tensor Tensor::expand(const Shape& s) const { return weft::expand(*this, s); }
Tensor Tensor::slice(int64_t d, int64_t a, int64_t b, int64_t s) const { return weft::slice(*this, d, a, b, s); }
Tensor Tensor::narrow(int64_t d, int64_t a, int64_t n) const { return weft::narrow(*this, d, a, n); }
Tensor Tensor::select(int64_t d, int64_t i) const { return weft::select(*this, d, i); }

}  // namespace weft
