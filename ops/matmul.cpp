#include <weft/autograd/autograd.h>
#include <weft/ops/copy.h>
#include <weft/ops/kernel.h>
#include <weft/ops/matmul.h>
#include <weft/ops/product_op.h>
#include <weft/ops/shape.h>

#include <atomic>

namespace weft {

// y[i] = a[i] · b[i]. y: [batch, m, n], rows one after the other; a: [batch, m, k] and b: [batch, k, n], either of them
// with a batch of 1 that repeats, each matrix with one stride of 1 (as_operand). y may be float32 where a and b are
// half. With c, which lies as y does and may be y, y = c + a · b.
WEFT_DECLARE_KERNEL(matmul, const Tensor& a, const Tensor& b, const Tensor& c, Tensor& y)

namespace {

std::atomic<bool> g_tf32{false};

// The kernels take matrices of which one dimension has stride 1 and the other a stride that holds a row.
Tensor as_operand(const Tensor& x) {
  const int64_t rows = x.size(-2), cols = x.size(-1);
  const int64_t rs = x.strides()[x.dim() - 2], cs = x.strides()[x.dim() - 1];
  const bool row_major = (cs == 1 || cols == 1) && (rs >= cols || rows == 1);
  const bool col_major = (rs == 1 || rows == 1) && (cs >= rows || cols == 1);
  return row_major || col_major ? x : x.contiguous();
}

Tensor flipped(const Tensor& x) { return transpose(x, -2, -1); }

// Whether x is a transposed matrix: its gradient then lies the same way, and what turns it back need not move memory.
bool runs_along_columns(const Tensor& x) { return x.size(-2) > 1 && x.size(-1) > 1 && x.strides()[x.dim() - 2] == 1; }

Shape leading(const Tensor& x) { return Shape(x.shape().begin(), x.shape().end() - 2); }

// The stride of dimensions 0 to last of x taken as one; -1 where memory has them otherwise.
int64_t merged_stride(const Tensor& x, int64_t last) {
  int64_t first = 0, expected = -1;
  for (int64_t d = last; d >= 0; --d) {
    if (x.shape()[d] == 1) continue;
    if (expected >= 0 && x.strides()[d] != expected) return -1;
    if (expected < 0) first = x.strides()[d];
    expected = x.strides()[d] * x.shape()[d];
  }
  return first;
}

// --- batches --------------------------------------------------------------------------------------------------------

// What the leading dimensions of a and b together walk through, merged where both allow.
struct Batches {
  struct Dim {
    int64_t size, a, b, y;  // strides; 0 where an operand repeats
  };
  std::vector<Dim> dims;

  Batches(const Tensor& a, const Tensor& b, const Tensor& y) {
    for (int64_t d = 0; d < y.dim() - 2; ++d) {
      const auto stride = [&](const Tensor& x) {
        const int64_t at = d - (y.dim() - x.dim());
        return at < 0 || x.shape()[at] == 1 ? 0 : x.strides()[at];
      };
      const Dim dim{y.shape()[d], stride(a), stride(b), y.strides()[d]};
      if (dim.size == 1) continue;
      if (!dims.empty() && dims.back().a == dim.a * dim.size && dims.back().b == dim.b * dim.size)
        dims.back() = {dims.back().size * dim.size, dim.a, dim.b, dim.y};
      else
        dims.push_back(dim);
    }
    // The longest goes to the kernel, last; the others are walked here.
    if (!dims.empty())
      std::swap(*std::max_element(dims.begin(), dims.end(), [](auto& p, auto& q) { return p.size < q.size; }),
                dims.back());
  }

  int64_t calls() const {
    int64_t n = 1;
    for (size_t i = 0; i + 1 < dims.size(); ++i) n *= dims[i].size;
    return n;
  }
};

// Matrices of x from an offset on, as the kernel takes them.
Tensor batch_view(const Tensor& x, int64_t size, int64_t stride, int64_t offset) {
  const int64_t d = x.dim() - 2;
  return as_strided_raw(x, {stride == 0 ? 1 : size, x.shape()[d], x.shape()[d + 1]},
                        {stride, x.strides()[d], x.strides()[d + 1]}, x.impl().offset + offset);
}

void multiply(const Tensor& a, const Tensor& b, const Tensor& c, const Tensor& y, const Batches& batches) {
  const Batches::Dim inner = batches.dims.empty() ? Batches::Dim{1, 0, 0, 0} : batches.dims.back();
  for (int64_t i = 0; i < batches.calls(); ++i) {
    int64_t at[3] = {}, rest = i;
    for (size_t d = batches.dims.size(); d-- > 1;) {
      const Batches::Dim& dim = batches.dims[d - 1];
      const int64_t position = rest % dim.size;
      at[0] += position * dim.a, at[1] += position * dim.b, at[2] += position * dim.y;
      rest /= dim.size;
    }
    const Tensor x = batch_view(a, inner.size, inner.a, at[0]), w = batch_view(b, inner.size, inner.b, at[1]);
    const Tensor start = c.defined() ? batch_view(c, inner.size, inner.y, at[2]) : c;
    Tensor out = batch_view(y, inner.size, inner.y, at[2]);
    WEFT_KERNEL(y.device(), matmul, x, w, start, out);
  }
}

// x with the leading dimensions of y, laid out so that they are one.
Tensor spread(const Tensor& x, const Tensor& y) {
  Shape shape = leading(y);
  shape.push_back(x.size(-2)), shape.push_back(x.size(-1));
  const Tensor wide = expand(x, shape);
  return merged_stride(wide, wide.dim() - 3) >= 0 ? wide : wide.contiguous();
}

// a · b as matmul has it, plus c if that is defined, not recorded. a: [..., m, k], b: [..., k, n]; c: of dtype, to be
// broadcast; the result in dtype.
Tensor product(const Tensor& a0, const Tensor& b0, DType dtype, const Tensor& c0 = {}) {
  Tensor a = as_operand(a0.detach()), b = as_operand(b0.detach());
  Shape shape = broadcast_shapes(leading(a), leading(b), "matmul");
  const int64_t count = shape.numel(), m = a.size(-2), n = b.size(-1);
  shape.push_back(m), shape.push_back(n);
  Tensor y = empty(shape, dtype, a.device());
  if (y.numel() == 0) return y;
  Tensor c = c0.defined() ? expand(c0.detach(), shape).contiguous() : c0;
  const int64_t stride = merged_stride(a, a.dim() - 2);
  if (count > 1 && leading(b).numel() == 1 && stride >= 0) {  // one matrix for all rows: one large product
    const Shape rows{count * m, a.size(-1)};
    a = as_operand(as_strided_raw(a, rows, {stride, a.strides().back()}, a.impl().offset));
    b = reshape(b, {b.size(-2), n});
    const Tensor out = reshape(y, {count * m, n});
    if (c.defined()) c = reshape(c, out.shape());
    multiply(a, b, c, out, Batches(a, b, out));
    return y;
  }
  // Leading dimensions that are not one in memory: a few calls of the kernel, or a copy if that is less work. A call
  // costs about what copying 4 MB does.
  Batches batches(a, b, y);
  const int64_t bytes = count * (m + n) * a.size(-1) * static_cast<int64_t>(size_of(a.dtype()));
  if (batches.calls() > std::max<int64_t>(4, bytes >> 22)) {
    a = spread(a, y), b = spread(b, y);
    batches = Batches(a, b, y);
  }
  multiply(a, b, c, y, batches);
  return y;
}

// The gradient of one matrix that served all rows of a: aᵀ · dy over all of them at once. [k, n]
Tensor shared_grad(const Tensor& a, const Tensor& dy, DType dtype) {
  const int64_t rows = leading(a).numel() * a.size(-2);
  return product(transpose(reshape(a.detach(), {rows, a.size(-1)}), 0, 1), reshape(dy.detach(), {rows, dy.size(-1)}),
                 dtype);
}

// Matrices: dim() of both is at least 2. Under Autocast x and w are what is multiplied, but the operation is recorded
// as one of a and b: the gradients of float32 operands are float32 from the start. c: undefined or added.
Tensor matrix_product(const char* name, const Tensor& c, const Tensor& a, const Tensor& b) {
  const Tensor x = Autocast::apply(a), w = Autocast::apply(b), start = c.defined() ? Autocast::apply(c) : c;
  check(x.dtype() == w.dtype(), name, ": dtypes differ: ", x.dtype(), " × ", w.dtype());
  check(!start.defined() || start.dtype() == x.dtype(), name,
        ": dtypes differ: ", start.defined() ? start.dtype() : x.dtype(), " + ", x.dtype());
  check(x.dtype() != boolean, name, ": not for bool");
  return record(name, product(x, w, x.dtype(), start), {a, b, c},
                [x, w, a_dtype = a.dtype(), b_dtype = b.dtype(), b_shape = b.shape()](const Tensor& dy) -> Grads {
                  if (grad_enabled()) {
                    return {x.requires_grad() ? matmul(dy, flipped(w)) : Tensor(),
                            w.requires_grad() ? matmul(flipped(x), dy) : Tensor(), dy};
                  }
                  const bool shared = leading(w).numel() == 1 && leading(x).numel() > 1 && x.numel() > 0;
                  Grads g{{}, {}, dy};
                  const bool alike = leading(x) == leading(w);
                  if (x.requires_grad())
                    g[0] = alike && runs_along_columns(x) ? flipped(product(w, flipped(dy), a_dtype))
                                                          : product(dy, flipped(w), a_dtype);
                  if (!w.requires_grad()) return g;
                  if (shared)
                    g[1] = reshape(shared_grad(x, dy, b_dtype), b_shape);
                  else
                    g[1] = alike && runs_along_columns(w) ? flipped(product(flipped(dy), x, b_dtype))
                                                          : product(flipped(x), dy, b_dtype);
                  return g;
                });
}

}  // namespace

void allow_tf32(bool on) { g_tf32.store(on, std::memory_order_relaxed); }
bool tf32_allowed() { return g_tf32.load(std::memory_order_relaxed); }

Tensor detail::empty_rows(int64_t rows, int64_t cols, DType dtype, Device device) {
  const int64_t whole = 16 / static_cast<int64_t>(size_of(dtype)), stride = (cols + whole - 1) / whole * whole;
  const Tensor wide = empty({rows, stride}, dtype, device);
  return stride == cols ? wide : as_strided_raw(wide, {rows, cols}, {stride, 1}, 0);
}

void detail::multiply_into(const Tensor& a, const Tensor& b, Tensor& y, bool accumulate) {
  const auto batch = [](const Tensor& x) { return batch_view(x, 1, 0, 0); };
  Tensor out = batch(y);
  WEFT_KERNEL(y.device(), matmul, batch(as_operand(a.detach())), batch(as_operand(b.detach())),
              accumulate ? out : Tensor(), out);
}

Tensor matmul(const Tensor& a0, const Tensor& b0) {
  check(a0.dim() >= 1 && b0.dim() >= 1, "matmul: expected at least one dimension: ", a0.shape(), " × ", b0.shape());
  const Tensor a = a0.dim() == 1 ? unsqueeze(a0, 0) : a0, b = b0.dim() == 1 ? unsqueeze(b0, 1) : b0;
  check(a.size(-1) == b.size(-2), "matmul: inner sizes differ: ", a0.shape(), " × ", b0.shape());
  check_same_device("matmul", {&a, &b});
  Tensor y = matrix_product("matmul", {}, a, b);
  if (b0.dim() == 1) y = squeeze(y, -1);
  if (a0.dim() == 1) y = squeeze(y, b0.dim() == 1 ? -1 : -2);
  return y;
}

Tensor baddbmm(const Tensor& c, const Tensor& a, const Tensor& b) {
  check(a.dim() >= 2 && b.dim() >= 2, "baddbmm: expected at least matrices: ", a.shape(), " × ", b.shape());
  check(a.size(-1) == b.size(-2), "baddbmm: inner sizes differ: ", a.shape(), " × ", b.shape());
  check_same_device("baddbmm", {&c, &a, &b});
  Shape shape = broadcast_shapes(leading(a), leading(b), "baddbmm");
  shape.push_back(a.size(-2)), shape.push_back(b.size(-1));
  check(broadcast_shapes(c.shape(), shape, "baddbmm") == shape, "baddbmm: ", c.shape(), " does not broadcast to ",
        shape);
  return matrix_product("baddbmm", c, a, b);
}

}  // namespace weft
