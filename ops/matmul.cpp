#include <weft/autograd/autograd.h>
#include <weft/ops/copy.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/kernel.h>
#include <weft/ops/matmul.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

namespace weft {

// y[b] = x[b] · w[b] (+ bias along rows); 3-D; the batch stride of x and w may be 0; bias may be undefined.
WEFT_DECLARE_KERNEL(matmul, const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& y)

namespace {

thread_local DType t_autocast = float32;
thread_local bool t_autocast_on = false;

// The kernel takes matrices of which one dimension has stride 1 and the other a stride that holds a row.
Tensor as_operand(const Tensor& x) {
  const int64_t rows = x.size(-2), cols = x.size(-1);
  const int64_t rs = x.strides()[x.dim() - 2], cs = x.strides()[x.dim() - 1];
  const bool row_major = (cs == 1 || cols == 1) && (rs >= cols || rows == 1);
  const bool col_major = (rs == 1 || rows == 1) && (cs >= rows || cols == 1);
  return row_major || col_major ? x : x.contiguous();
}

// The plain product of [b, m, k] (or [m, k]) operands, batch broadcast.
Tensor product(const Tensor& a, const Tensor& b, const Tensor& bias) {
  const Tensor x = as_operand(a), w = as_operand(b);
  Tensor y = empty({std::max(x.size(0), w.size(0)), x.size(1), w.size(2)}, x.dtype(), x.device());
  WEFT_KERNEL(x.device(), matmul, x, w, bias, y);
  return y;
}

// How many rows of size(-1) elements x has; told to reshape, which cannot tell where a size is 0.
int64_t row_count(const Tensor& x) { return Shape(x.shape().begin(), x.shape().end() - 1).numel(); }

Tensor to_batch(const Tensor& x, const Shape& lead) {
  Shape full = lead;
  full.push_back(x.size(-2)), full.push_back(x.size(-1));
  return reshape(expand(x, full), {lead.numel(), x.size(-2), x.size(-1)});
}

// [b, m, k] × [b, k, n]
Tensor bmm(const Tensor& a, const Tensor& b) {
  return record("matmul", product(a, b, {}), {a, b}, [a, b](const Tensor& dy) -> Grads {
    return {a.requires_grad() ? bmm(dy, transpose(b, 1, 2)) : Tensor(),
            b.requires_grad() ? bmm(transpose(a, 1, 2), dy) : Tensor()};
  });
}

Tensor activate(const Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return relu(x);
    case Activation::gelu:
      return gelu(x);
    case Activation::gelu_tanh:
      return gelu_tanh(x);
    case Activation::silu:
      return silu(x);
  }
  fail("linear: unknown activation");
}

}  // namespace

Autocast::Autocast(DType dtype, bool enabled) : before_(t_autocast), enabled_before_(t_autocast_on) {
  check(is_half(dtype), "Autocast: expected bfloat16 or float16, got ", dtype);
  t_autocast = dtype, t_autocast_on = enabled;
}
Autocast::~Autocast() { t_autocast = before_, t_autocast_on = enabled_before_; }
bool Autocast::active() { return t_autocast_on; }
DType Autocast::dtype() { return t_autocast; }
Tensor Autocast::apply(const Tensor& x) {
  return t_autocast_on && x.defined() && x.dtype() == float32 ? x.to(t_autocast) : x;
}

Tensor matmul(const Tensor& a0, const Tensor& b0) {
  check(a0.dim() >= 1 && b0.dim() >= 1, "matmul: expected at least one dimension: ", a0.shape(), " × ", b0.shape());
  Tensor a = a0.dim() == 1 ? unsqueeze(a0, 0) : a0, b = b0.dim() == 1 ? unsqueeze(b0, 1) : b0;
  check(a.size(-1) == b.size(-2), "matmul: inner sizes differ: ", a0.shape(), " × ", b0.shape());
  check_same_device("matmul", {&a, &b});
  a = Autocast::apply(a), b = Autocast::apply(b);
  check(a.dtype() == b.dtype(), "matmul: dtypes differ: ", a.dtype(), " × ", b.dtype());
  check(a.dtype() != boolean, "matmul: not for bool");
  Tensor y;
  Shape lead(b.shape().begin(), b.shape().end() - 2);
  if (lead.numel() == 1 && a.dim() > 2) {  // one matrix for all rows: a single large product
    Shape shape = a.shape();
    shape.back() = b.size(-1);
    y = reshape(
        bmm(reshape(a, {1, row_count(a), a.size(-1)}), reshape(b, {1, b.size(-2), b.size(-1)})),
        broadcast_shapes(shape, lead.empty() ? Shape{} : Shape(static_cast<size_t>(lead.size() + 2), 1), "matmul"));
  } else {
    lead = broadcast_shapes(Shape(a.shape().begin(), a.shape().end() - 2), lead, "matmul");
    Shape shape = lead;
    shape.push_back(a.size(-2)), shape.push_back(b.size(-1));
    y = reshape(bmm(to_batch(a, lead), to_batch(b, lead)), shape);
  }
  if (b0.dim() == 1) y = squeeze(y, -1);
  if (a0.dim() == 1) y = squeeze(y, b0.dim() == 1 ? -1 : -2);
  return y;
}

Tensor linear(const Tensor& x0, const Tensor& weight0, const Tensor& bias0, Activation activation) {
  check(weight0.dim() == 2, "linear: expected a weight [out, in], got ", weight0.shape());
  check(x0.dim() >= 1 && x0.size(-1) == weight0.size(1), "linear: input ", x0.shape(), " does not fit weight ",
        weight0.shape());
  check(!bias0.defined() || bias0.shape() == Shape{weight0.size(0)}, "linear: bias ",
        bias0.defined() ? bias0.shape() : Shape(), " does not fit weight ", weight0.shape());
  check_same_device("linear", {&x0, &weight0, &bias0});
  const Tensor x = Autocast::apply(x0), w = Autocast::apply(weight0), bias = Autocast::apply(bias0);
  check(x.is_floating() && x.dtype() == w.dtype() && (!bias.defined() || bias.dtype() == x.dtype()),
        "linear: dtypes differ: input ", x.dtype(), ", weight ", w.dtype(), ", bias ",
        bias.defined() ? bias.dtype() : w.dtype());
  const Tensor rows = reshape(x, {row_count(x), x.size(-1)});  // [r, in]
  Tensor y = squeeze(product(unsqueeze(rows.detach(), 0), unsqueeze(transpose(w.detach(), 0, 1), 0),
                             bias.defined() ? bias.detach().contiguous() : bias),
                     0);
  y = record("linear", y, {rows, w, bias},
             [rows, w, needs_bias = bias.defined() && bias.requires_grad()](const Tensor& dy) -> Grads {
               return {rows.requires_grad() ? matmul(dy, w) : Tensor(),
                       w.requires_grad() ? matmul(transpose(dy, 0, 1), rows) : Tensor(),
                       needs_bias ? sum(dy, 0) : Tensor()};
             });
  Shape shape = x.shape();
  shape.back() = w.size(0);
  return activate(reshape(y, shape), activation);
}

}  // namespace weft
