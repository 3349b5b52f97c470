// All of this family rests on two operations that are each other's gradient, take and spread, and on put. They work on
// an index with x's number of dimensions; where it is the same along a dimension, its stride there is 0, and the
// kernels then move whole rows.
#include <weft/autograd/autograd.h>
#include <weft/ops/copy.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/kernel.h>
#include <weft/ops/reduce.h>
#include <weft/ops/scan.h>
#include <weft/ops/shape.h>
#include <weft/ops/sort.h>

namespace weft {

// y[p] = x[p with index[p] at dim]; index: int64, any strides; y: contiguous, index's shape. op is for the error.
WEFT_DECLARE_KERNEL(gather, const char* op, const Tensor& x, int64_t dim, const Tensor& index, Tensor& y)
// y[p with index[p] at dim] = src[p], or += for accumulate; along dim in the order of p. src: index's shape; y is not
// a half type where it accumulates, and src has its dtype.
WEFT_DECLARE_KERNEL(scatter, const char* op, int64_t dim, const Tensor& index, const Tensor& src, bool accumulate,
                    Tensor& y)
// flat = flat·n + index, negative ones counted from the end of n; index broadcasts to flat.
WEFT_DECLARE_KERNEL(fold_index, const char* op, int64_t dim, const Tensor& index, int64_t n, Tensor& flat)
// The positions where the contiguous boolean x is true; positions has room for just those.
WEFT_DECLARE_KERNEL(nonzero, const Tensor& x, Tensor& positions)

// --- the primitives --------------------------------------------------------------------------------------------------

namespace {

Tensor spread(const char* op, const Tensor& dy, int64_t dim, const Tensor& index, const Shape& shape);

Tensor take(const char* op, const Tensor& x, int64_t dim, const Tensor& index) {
  Tensor y = empty(index.shape(), x.dtype(), x.device());
  WEFT_KERNEL(x.device(), gather, op, x, dim, index, y);
  return record(op, y, {x, index}, [op, dim, index, from = x.shape()](const Tensor& dy) -> Grads {
    return {spread(op, dy, dim, index, from), {}};
  });
}

// Half types are added up in float32: y and src are converted for that, and the sum back.
void accumulate(const char* op, int64_t dim, const Tensor& index, const Tensor& src, Tensor& y) {
  WEFT_KERNEL(y.device(), scatter, op, dim, index, src.to(y.dtype()), true, y);
}
DType sum_dtype(const Tensor& x) { return is_half(x.dtype()) ? float32 : x.dtype(); }

// The gradient of take: zeros of shape, with dy added at the index.
Tensor spread(const char* op, const Tensor& dy, int64_t dim, const Tensor& index, const Shape& shape) {
  Tensor y = zeros(shape, {.dtype = sum_dtype(dy), .device = dy.device()});
  accumulate(op, dim, index, dy.detach(), y);
  return record(op, y.to(dy.dtype()), {dy, index}, [op, dim, index](const Tensor& ddy) -> Grads {
    return {take(op, ddy, dim, index), {}};
  });
}

Tensor add_at(const char* op, const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  Tensor y = x.detach().to(sum_dtype(x));
  if (y.dtype() == x.dtype()) y = y.clone();
  accumulate(op, dim, index, src.detach(), y);
  return record(op, y.to(x.dtype()), {x, src, index},
                [op, dim, index, needs = src.requires_grad()](const Tensor& dy) -> Grads {
                  return {dy, needs ? take(op, dy, dim, index) : Tensor(), {}};
                });
}

// 1 for the elements of index that nothing later along dim overwrites, else 0. Dimensions along which index is the same
// count once.
Tensor winners(int64_t dim, const Tensor& index, const Shape& target) {
  Shape small = index.shape(), places = target, line(static_cast<size_t>(index.dim()), 1);
  for (int64_t d = 0; d < index.dim(); ++d) {
    if (d != dim && index.strides()[d] == 0) small[d] = places[d] = 1;
  }
  line[dim] = small[dim];
  const Tensor once = as_strided_raw(index, small, index.strides(), index.impl().offset);
  const Tensor order = expand(reshape(arange(small[dim]).to(index.device()), line), small);
  Tensor last = empty(places, int64, index.device());
  WEFT_KERNEL(index.device(), scatter, "scatter", dim, once, order, false, last);
  return eq(take("scatter", last, dim, once), order);
}

Tensor put(const char* op, const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  Tensor y = x.detach().clone();
  WEFT_KERNEL(y.device(), scatter, op, dim, index, src, false, y);
  return record(
      op, y, {x, src, index},
      [op, dim, index, from = x.shape(), x_needs = x.requires_grad(),
       src_needs = src.requires_grad()](const Tensor& dy) -> Grads {
        const Tensor none = expand(scalar(0, {.dtype = dy.dtype(), .device = dy.device()}), index.shape());
        return {x_needs ? put(op, dy, dim, index, none) : Tensor(),
                src_needs ? masked_fill(take(op, dy, dim, index), logical_not(winners(dim, index, from)), 0) : Tensor(),
                {}};
      });
}

}  // namespace

// --- arguments -------------------------------------------------------------------------------------------------------

namespace {

Tensor as_index(const char* op, const Tensor& x, const Tensor& index) {
  check(is_integer(index.dtype()), op, ": expected an integer index, got ", index.dtype());
  check_same_device(op, {&x, &index});
  return index.to(int64);
}

// A scalar counts as one element.
Tensor at_least_1d(const Tensor& x) { return x.dim() == 0 ? reshape(x, {1}) : x; }
Tensor with_shape(const Tensor& y, const Shape& shape) { return y.shape() == shape ? y : reshape(y, shape); }

// A 1-D index laid along dim of shape, the same everywhere else.
Tensor along(const Tensor& index, int64_t dim, Shape shape) {
  shape[dim] = index.numel();
  Shape strides(static_cast<size_t>(shape.size()), 0);
  strides[dim] = index.strides()[0];
  return as_strided_raw(index, shape, strides, index.impl().offset);
}

Tensor line_index(const char* op, const Tensor& x, const Tensor& index) {
  check(index.dim() <= 1, op, ": expected a 1-D index, got shape ", index.shape());
  return at_least_1d(as_index(op, x, index));
}

// An elementwise index: x's number of dimensions, no larger than x outside dim.
Tensor full_index(const char* op, const Tensor& x, int64_t dim, const Tensor& index) {
  const Tensor ids = at_least_1d(as_index(op, x, index));
  check(ids.dim() == x.dim(), op, ": index ", index.shape(), " must have as many dimensions as the input ", x.shape());
  for (int64_t d = 0; d < x.dim(); ++d) {
    check(d == dim || ids.shape()[d] <= x.shape()[d], op, ": index ", index.shape(), " is larger than the input ",
          x.shape(), " in dim ", d);
  }
  return ids;
}

// src cut to the shape of index.
Tensor source(const char* op, const Tensor& x, const Tensor& index, const Tensor& src0) {
  Tensor src = at_least_1d(src0);
  check(src.dtype() == x.dtype(), op, ": the source is ", src.dtype(), ", the input ", x.dtype());
  check_same_device(op, {&x, &src});
  check(src.dim() == x.dim(), op, ": source ", src0.shape(), " must have as many dimensions as the input ", x.shape());
  for (int64_t d = 0; d < src.dim(); ++d) {
    check(index.shape()[d] <= src.shape()[d], op, ": index ", index.shape(), " is larger than the source ",
          src0.shape(), " in dim ", d);
    src = slice(src, d, 0, index.shape()[d]);
  }
  return src;
}

// The slices that index_add and index_copy put in.
Tensor slices(const char* op, const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
  const Tensor src = at_least_1d(source);
  Shape shape = x.shape();
  shape[dim] = index.numel();
  check(src.dtype() == x.dtype(), op, ": the source is ", src.dtype(), ", the input ", x.dtype());
  check_same_device(op, {&x, &src});
  check(src.shape() == shape, op, ": expected a source of shape ", shape, ", got ", source.shape());
  return src;
}

}  // namespace

// --- reading ---------------------------------------------------------------------------------------------------------

Tensor gather(const Tensor& x0, int64_t dim, const Tensor& index) {
  const Tensor x = at_least_1d(x0);
  dim = wrap_dim(dim, x.dim(), "gather");
  return with_shape(take("gather", x, dim, full_index("gather", x, dim, index)), index.shape());
}

Tensor take_along_dim(const Tensor& x0, const Tensor& index0, std::optional<int64_t> dim0) {
  if (!dim0) return take_along_dim(flatten(x0), flatten(index0), 0);
  check(x0.dim() == index0.dim(), "take_along_dim: index ", index0.shape(),
        " must have as many dimensions as the input ", x0.shape());
  const Tensor x = at_least_1d(x0);
  const Tensor ids = at_least_1d(as_index("take_along_dim", x, index0));
  const int64_t dim = wrap_dim(*dim0, x.dim(), "take_along_dim");
  Shape a = x.shape(), b = ids.shape();
  a[dim] = b[dim] = 1;
  Shape shape = broadcast_shapes(a, b, "take_along_dim");
  shape[dim] = x.shape()[dim];
  const Tensor wide = expand(x, shape);
  shape[dim] = ids.shape()[dim];
  return with_shape(take("take_along_dim", wide, dim, expand(ids, shape)), index0.dim() == 0 ? Shape{} : shape);
}

Tensor index_select(const Tensor& x0, int64_t dim, const Tensor& index) {
  const Tensor x = at_least_1d(x0);
  dim = wrap_dim(dim, x.dim(), "index_select");
  const Tensor ids = along(line_index("index_select", x, index), dim, x.shape());
  return with_shape(take("index_select", x, dim, ids), x0.dim() == 0 ? Shape{} : ids.shape());
}

Tensor masked_select(const Tensor& x, const Tensor& mask) {
  check(mask.dtype() == boolean, "masked_select: expected a boolean mask, got ", mask.dtype());
  check_same_device("masked_select", {&x, &mask});
  const Shape shape = broadcast_shapes(x.shape(), mask.shape(), "masked_select");
  return index_select(flatten(expand(x, shape)), 0, flatten(nonzero(flatten(expand(mask, shape)))));
}

Tensor embedding(const Tensor& ids, const Tensor& weight, std::optional<int64_t> padding_idx) {
  check(weight.dim() == 2, "embedding: expected a weight [n, d], got ", weight.shape());
  const int64_t n = weight.size(0);
  const Tensor flat = flatten(as_index("embedding", weight, ids)).contiguous();
  const Tensor index = along(flat, 0, weight.shape());  // [ids, d]
  Tensor y;
  if (padding_idx) {
    check(*padding_idx >= -n && *padding_idx < n, "embedding: padding_idx ", *padding_idx, " is out of range for ", n,
          " rows");
    const Tensor padding = unsqueeze(eq(flat, *padding_idx < 0 ? *padding_idx + n : *padding_idx), 1);
    y = take("embedding", weight.detach(), 0, index);
    y = record("embedding", y, {weight, index}, [padding, index, from = weight.shape()](const Tensor& dy) -> Grads {
      return {spread("embedding", masked_fill(dy, padding, 0), 0, index, from), {}};
    });
  } else {
    y = take("embedding", weight, 0, index);
  }
  Shape shape = ids.shape();
  shape.push_back(weight.size(1));
  return with_shape(y, shape);
}

Tensor repeat_interleave(const Tensor& x, int64_t repeats, std::optional<int64_t> dim0) {
  check(repeats >= 0, "repeat_interleave: repeats must not be negative, got ", repeats);
  if (!dim0) return repeat_interleave(flatten(x), repeats, 0);
  check(x.dim() > 0, "repeat_interleave: a scalar has no dimension ", *dim0);
  const int64_t dim = wrap_dim(*dim0, x.dim(), "repeat_interleave");
  Shape wide = x.shape(), shape = x.shape();
  wide.insert(dim + 1, repeats);
  shape[dim] *= repeats;
  return reshape(expand(unsqueeze(x, dim + 1), wide), shape);
}

Tensor repeat_interleave(const Tensor& x, const Tensor& repeats0, std::optional<int64_t> dim0) {
  if (!dim0) return repeat_interleave(flatten(x), repeats0, 0);
  check(x.dim() > 0, "repeat_interleave: a scalar has no dimension ", *dim0);
  const int64_t dim = wrap_dim(*dim0, x.dim(), "repeat_interleave");
  Tensor repeats = line_index("repeat_interleave", x, repeats0);
  check(repeats.numel() == x.size(dim) || repeats.numel() == 1, "repeat_interleave: ", repeats.numel(),
        " repeats for size ", x.size(dim));
  repeats = expand(repeats, {x.size(dim)});
  check(repeats.numel() == 0 || amin(repeats).item<int64_t>() >= 0,
        "repeat_interleave: repeats must not be negative, got ",
        repeats.numel() == 0 ? 0 : amin(repeats).item<int64_t>());
  // Slice i fills the places up to the sum of the repeats so far.
  const Tensor ends = cumsum(repeats, 0);
  const int64_t total = repeats.numel() == 0 ? 0 : select(ends, 0, -1).item<int64_t>();
  return index_select(x, dim, searchsorted(ends, arange(total).to(x.device()), true));
}

Tensor nonzero(const Tensor& x) {
  const Tensor hit = x.dtype() == boolean ? x.contiguous() : ne(x, 0).contiguous();
  Tensor flat = empty({sum(hit).item<int64_t>()}, int64, x.device());
  WEFT_KERNEL(x.device(), nonzero, hit, flat);
  if (x.dim() == 1) return unsqueeze(flat, 1);
  Tensors columns;
  const Shape strides = x.shape().contiguous_strides();
  for (int64_t d = 0; d < x.dim(); ++d) columns.push_back(remainder(floor_divide(flat, strides[d]), x.shape()[d]));
  return columns.empty() ? empty({flat.numel(), 0}, int64, x.device()) : stack(columns, 1);
}

Tensor one_hot(const Tensor& ids0, int64_t num_classes) {
  const Tensor ids = as_index("one_hot", ids0, ids0);
  check(num_classes >= -1, "one_hot: expected num_classes ≥ 0 or -1, got ", num_classes);
  if (num_classes < 0) {
    check(ids.numel() > 0, "one_hot: without ids num_classes must be given");
    num_classes = amax(ids).item<int64_t>() + 1;
  }
  Shape shape = ids.shape();
  shape.push_back(num_classes);
  Tensor y = zeros(shape, {.dtype = int64, .device = ids.device()});
  const Tensor index = unsqueeze(ids, -1),
               one = expand(scalar(1, {.dtype = int64, .device = ids.device()}), index.shape());
  WEFT_KERNEL(ids.device(), scatter, "one_hot", ids.dim(), index, one, false, y);
  return y;
}

// --- writing ---------------------------------------------------------------------------------------------------------

Tensor scatter(const Tensor& x0, int64_t dim, const Tensor& index, const Tensor& src) {
  const Tensor x = at_least_1d(x0);
  dim = wrap_dim(dim, x.dim(), "scatter");
  const Tensor ids = full_index("scatter", x, dim, index);
  return with_shape(put("scatter", x, dim, ids, source("scatter", x, ids, src)), x0.shape());
}

Tensor scatter(const Tensor& x0, int64_t dim, const Tensor& index, Scalar value) {
  const Tensor x = at_least_1d(x0);
  dim = wrap_dim(dim, x.dim(), "scatter");
  const Tensor ids = full_index("scatter", x, dim, index);
  const Tensor src = expand(scalar(value, {.dtype = x.dtype(), .device = x.device()}), ids.shape());
  return with_shape(put("scatter", x, dim, ids, src), x0.shape());
}

Tensor scatter_add(const Tensor& x0, int64_t dim, const Tensor& index, const Tensor& src) {
  const Tensor x = at_least_1d(x0);
  dim = wrap_dim(dim, x.dim(), "scatter_add");
  const Tensor ids = full_index("scatter_add", x, dim, index);
  return with_shape(add_at("scatter_add", x, dim, ids, source("scatter_add", x, ids, src)), x0.shape());
}

Tensor index_add(const Tensor& x0, int64_t dim, const Tensor& index, const Tensor& source, Scalar alpha) {
  const Tensor x = at_least_1d(x0);
  dim = wrap_dim(dim, x.dim(), "index_add");
  const Tensor line = line_index("index_add", x, index);
  Tensor src = slices("index_add", x, dim, line, source);
  if (alpha.to_double() != 1) src = mul(src, alpha);
  return with_shape(add_at("index_add", x, dim, along(line, dim, x.shape()), src), x0.shape());
}

Tensor index_copy(const Tensor& x0, int64_t dim, const Tensor& index, const Tensor& source) {
  const Tensor x = at_least_1d(x0);
  dim = wrap_dim(dim, x.dim(), "index_copy");
  const Tensor line = line_index("index_copy", x, index);
  const Tensor src = slices("index_copy", x, dim, line, source);
  return with_shape(put("index_copy", x, dim, along(line, dim, x.shape()), src), x0.shape());
}

void index_copy_(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
  const char* op = "index_copy_";
  check(x.dim() > 0, op, ": expected a tensor with dimensions, got a scalar");
  dim = wrap_dim(dim, x.dim(), op);
  const Tensor line = line_index(op, x, index), src = slices(op, x, dim, line, source);
  prepare_write(x, op);
  Tensor y = x.detach();
  WEFT_KERNEL(x.device(), scatter, op, dim, along(line, dim, x.shape()), src.detach(), false, y);
}

// --- several indices at once -----------------------------------------------------------------------------------------

namespace {

// What index and index_put share: the indexed dimensions of x, moved next to each other and merged into one.
struct Where {
  Shape order;        // x permuted: indexed dimensions together
  int64_t at = 0;     // where they begin in it
  int64_t count = 0;  // how many they are
  Shape index_shape;  // what the index tensors broadcast to
  Tensor flat;        // [index_shape.numel()]: position in the merged dimension
};

// Replaces boolean masks by the positions where they hold.
Tensors without_masks(const char* op, const Tensor& x, const Tensors& indices) {
  Tensors out;
  for (const Tensor& i : indices) {
    if (!i.defined() || i.dtype() != boolean) {
      out.push_back(i.defined() ? as_index(op, x, i) : i);
      continue;
    }
    const auto first = static_cast<int64_t>(out.size());
    for (int64_t d = 0; d < i.dim(); ++d) {
      check(first + d < x.dim() && i.shape()[d] == x.shape()[first + d], op, ": mask ", i.shape(),
            " does not fit the input ", x.shape(), " at dim ", first);
    }
    check(i.dim() > 0, op, ": a mask needs at least one dimension");
    const Tensor positions = nonzero(i);
    for (int64_t d = 0; d < i.dim(); ++d) out.push_back(select(positions, 1, d));
  }
  check(static_cast<int64_t>(out.size()) <= x.dim(), op, ": ", out.size(), " indices for ", x.dim(), " dimensions");
  return out;
}

Where locate(const char* op, const Tensor& x, const Tensors& indices0) {
  const Tensors indices = without_masks(op, x, indices0);
  Where w;
  int64_t first = -1, last = -1;
  for (int64_t d = 0; d < static_cast<int64_t>(indices.size()); ++d) {
    const Tensor& i = indices[static_cast<size_t>(d)];
    if (!i.defined()) continue;
    w.index_shape = broadcast_shapes(w.index_shape, i.shape(), op);
    if (first < 0) first = d;
    last = d, ++w.count;
  }
  check(w.count > 0, op, ": expected at least one index tensor");
  w.at = last - first + 1 == w.count ? first : 0;
  w.flat = zeros(w.index_shape, {.dtype = int64, .device = x.device()});
  Shape others;
  for (int64_t d = 0; d < x.dim(); ++d) {
    if (d < static_cast<int64_t>(indices.size()) && indices[static_cast<size_t>(d)].defined()) {
      w.order.push_back(d);
      const Tensor i = expand(indices[static_cast<size_t>(d)], w.index_shape);
      WEFT_KERNEL(x.device(), fold_index, op, d, i, x.shape()[d], w.flat);
    } else {
      others.push_back(d);
    }
  }
  for (int64_t k = 0; k < others.size(); ++k) k < w.at ? w.order.insert(k, others[k]) : w.order.push_back(others[k]);
  w.flat = reshape(w.flat, {-1});
  return w;
}

// [before..., indexed dimensions merged, after...]
Tensor merged(const Tensor& x, const Where& w) { return flatten(permute(x, w.order), w.at, w.at + w.count - 1); }

Shape result_shape(const Tensor& merged, const Where& w) {
  Shape shape = merged.shape();
  shape.erase(w.at);
  for (int64_t k = 0; k < w.index_shape.size(); ++k) shape.insert(w.at + k, w.index_shape[k]);
  return shape;
}

// Whether from broadcasts to shape.
bool fits(const Shape& from, const Shape& shape) {
  const int64_t lead = shape.size() - from.size();
  bool ok = lead >= 0;
  for (int64_t d = 0; ok && d < from.size(); ++d) ok = from[d] == 1 || from[d] == shape[lead + d];
  return ok;
}

}  // namespace

Tensor index(const Tensor& x, const Tensors& indices) {
  const Where w = locate("index", x, indices);
  const Tensor rows = merged(x, w);
  return reshape(take("index", rows, w.at, along(w.flat, w.at, rows.shape())), result_shape(rows, w));
}

Tensor index_put(const Tensor& x, const Tensors& indices, const Tensor& values, bool accumulate) {
  check(values.dtype() == x.dtype(), "index_put: the values are ", values.dtype(), ", the input ", x.dtype());
  check_same_device("index_put", {&x, &values});
  const Where w = locate("index_put", x, indices);
  const Tensor rows = merged(x, w), flat = along(w.flat, w.at, rows.shape());
  const Shape shape = result_shape(rows, w);
  check(fits(values.shape(), shape), "index_put: values ", values.shape(), " do not broadcast to ", shape);
  const Tensor src = reshape(expand(values, shape), flat.shape());
  const Tensor y = accumulate ? add_at("index_put", rows, w.at, flat, src) : put("index_put", rows, w.at, flat, src);
  Shape back(static_cast<size_t>(x.dim()), 0), sizes;
  for (int64_t k = 0; k < x.dim(); ++k) {
    back[w.order[k]] = k;
    sizes.push_back(x.shape()[w.order[k]]);
  }
  return permute(reshape(y, sizes), back);
}

}  // namespace weft
