#include <weft/autograd/autograd.h>
#include <weft/autograd/node.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/kernel.h>
#include <weft/ops/linear.h>
#include <weft/ops/matmul.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

namespace weft {

// Matrices here have rows one after the other or at a larger stride; x: [r, in], w: [out, in], bias: [out] or
// undefined.
//
// y = activation(x·wᵀ + bias); pre, if defined, gets the activation's argument. y, pre: [r, out]
WEFT_DECLARE_KERNEL(linear_forward, const Tensor& x, const Tensor& w, const Tensor& bias, Activation activation,
                    Tensor& y, Tensor& pre)
// dx = dy·w, times activation'(saved) unless there is none. saved: [r, in], as in linear_activation_grad; dx: [r, in],
// its dtype may be float32 where dy's and w's is half
WEFT_DECLARE_KERNEL(linear_input_grad, const Tensor& dy, const Tensor& w, Activation activation, const Tensor& saved,
                    Tensor& dx)
// dw = dyᵀ·x and db = the sums of dy's columns; either may be undefined, either may be float32 where the rest is half;
// dw may lie transposed
WEFT_DECLARE_KERNEL(linear_weight_grad, const Tensor& dy, const Tensor& x, Tensor& dw, Tensor& db)
// dz = dy·activation'(saved), db = the sums of its columns if defined. saved: the activation's argument, for relu its
// result. dy, saved, dz: [r, n]
WEFT_DECLARE_KERNEL(linear_activation_grad, const Tensor& dy, const Tensor& saved, Activation activation, Tensor& dz,
                    Tensor& db)

namespace {

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

// --- operands -------------------------------------------------------------------------------------------------------

// x and the parameters of one layer in the dtype that is computed in, with their histories; and what dtype the
// gradients have: that of what the caller gave.
struct Layer {
  Tensor weight, bias;
  DType weight_dtype, bias_dtype;

  Layer(const Tensor& w, const Tensor& b)
      : weight(Autocast::apply(w)),
        bias(Autocast::apply(b)),
        weight_dtype(w.dtype()),
        bias_dtype(b.defined() ? b.dtype() : w.dtype()) {}
  bool trains_weight() const { return weight.requires_grad(); }
  bool trains_bias() const { return bias.defined() && bias.requires_grad(); }
};

void check_layer(const char* op, const Shape& x, const Tensor& w, const Tensor& b) {
  check(w.dim() == 2, op, ": expected a weight [out, in], got ", w.shape());
  check(x.size() >= 1 && x.back() == w.size(1), op, ": input ", x, " does not fit weight ", w.shape());
  check(!b.defined() || b.shape() == Shape{w.size(0)}, op, ": bias ", b.defined() ? b.shape() : Shape(),
        " does not fit weight ", w.shape());
}

void check_dtypes(const char* op, const Tensor& x, const Layer& l) {
  check(x.is_floating() && x.dtype() == l.weight.dtype() && (!l.bias.defined() || l.bias.dtype() == x.dtype()), op,
        ": dtypes differ: input ", x.dtype(), ", weight ", l.weight.dtype(), ", bias ",
        l.bias.defined() ? l.bias.dtype() : l.weight.dtype());
}

// A matrix that the kernels take: rows of stride 1, or for a weight columns.
Tensor row_major(const Tensor& x) {
  return (x.strides()[1] == 1 || x.size(1) == 1) && (x.strides()[0] >= x.size(1) || x.size(0) == 1) ? x
                                                                                                    : x.contiguous();
}
Tensor weight_operand(const Tensor& w) {
  const bool columns = w.strides()[0] == 1 && w.strides()[1] >= w.size(0);
  return columns ? w : row_major(w);
}

// x: [..., n] as [r, n], outside the graph.
Tensor rows_of(const Tensor& x) {
  const int64_t r = Shape(x.shape().begin(), x.shape().end() - 1).numel();
  return row_major(reshape(x.detach(), {r, x.size(-1)}));
}

Shape with_last(Shape shape, int64_t n) {
  shape.back() = n;
  return shape;
}

// --- the parts of a backward pass -----------------------------------------------------------------------------------

// dy, saved: [..., n] each, n of equal size, beside each other in the result: [r, out]
Tensor activation_grad(const Tensors& dy, const Tensors& saved, Activation activation, Tensor& db) {
  const Tensor first = rows_of(dy[0]);
  const int64_t n = first.size(1);
  Tensor dz = empty({first.size(0), n * static_cast<int64_t>(dy.size())}, first.dtype(), first.device());
  for (size_t i = 0; i < dy.size(); ++i) {
    const auto at = static_cast<int64_t>(i) * n;
    Tensor part = narrow(dz, 1, at, n), sums = db.defined() ? narrow(db, 0, at, n) : db;
    WEFT_KERNEL(dz.device(), linear_activation_grad, rows_of(dy[i]), rows_of(saved[i]), activation, part, sums);
  }
  return dz;
}

Tensor input_grad(const Tensor& dy, const Tensor& w0, DType dtype, Activation activation = Activation::none,
                  const Tensor& saved = {}) {
  const Tensor w = weight_operand(w0.detach());
  Tensor dx = empty({dy.size(0), w.size(1)}, dtype, dy.device());
  WEFT_KERNEL(dy.device(), linear_input_grad, dy, w, activation, saved, dx);
  return dx;
}

// bias_done: its gradient is there already.
void parameter_grads(const Tensor& dy, const Tensor& x, const Layer& l, Tensor& dw, Tensor& db,
                     bool bias_done = false) {
  Tensor none;
  Tensor& sums = bias_done ? none : db;
  if (l.trains_weight()) {  // laid out as the weight, which may be a transposed view of a parameter
    const int64_t out = l.weight.size(0), in = l.weight.size(1);
    const bool columns = l.weight.strides()[0] == 1 && in > 1;
    dw = empty(columns ? Shape{in, out} : Shape{out, in}, l.weight_dtype, dy.device());
    if (columns) dw = transpose(dw, 0, 1);
  }
  if (l.trains_bias() && !bias_done) db = empty(l.bias.shape(), l.bias_dtype, dy.device());
  if (dw.defined() || sums.defined()) WEFT_KERNEL(dy.device(), linear_weight_grad, dy, x, dw, sums);
}

// The same made of ops, to be differentiated again. All matrices [r, n]; a, b undefined where not wanted.
struct Composed {
  Tensor argument, result;  // of the activation

  Composed(const Tensor& x, const Layer& l, Activation activation) {
    argument = matmul(x, transpose(l.weight, 0, 1));
    if (l.bias.defined()) argument = add(argument, l.bias);
    result = activate(argument, activation);
  }
  // The gradient of the argument: the activation's own backward.
  Tensor through(const Tensor& dy) const {
    if (result.same_as(argument)) return dy;
    return result.grad_fn()->backward({dy}, {result})[0];
  }
  static void parameters(const Tensor& dz, const Tensor& x, const Layer& l, Tensor& dw, Tensor& db) {
    if (l.trains_weight()) dw = matmul(transpose(dz, 0, 1), x);
    if (l.trains_bias()) db = sum(dz, 0);
  }
};

Tensor composed_rows(const Tensor& x) {
  return reshape(x, {Shape(x.shape().begin(), x.shape().end() - 1).numel(), x.size(-1)});
}

}  // namespace

// --- linear ---------------------------------------------------------------------------------------------------------

namespace {

// linear() in parts along the last dimension, views of one result. dz, the gradient of the activation's argument, is
// whole again.
Tensors dense(const char* name, const Tensor& x0, const Tensor& weight, const Tensor& bias, Activation activation,
              int64_t parts) {
  check_layer(name, x0.shape(), weight, bias);
  check_same_device(name, {&x0, &weight, &bias});
  const Tensor x = Autocast::apply(x0);
  const Layer layer(weight, bias);
  check_dtypes(name, x, layer);
  const bool has_activation = activation != Activation::none;

  // What the gradient of the activation is computed from: its argument, but for relu its result.
  const bool differentiates = detail::must_record({x0, weight, bias});
  const bool keeps_argument = differentiates && has_activation && activation != Activation::relu;
  const Tensor rows = rows_of(x);
  Tensor y = empty({rows.size(0), weight.size(0)}, x.dtype(), x.device());
  Tensor pre = keeps_argument ? empty_like(y) : Tensor();
  WEFT_KERNEL(x.device(), linear_forward, rows, weight_operand(layer.weight.detach()),
              layer.bias.defined() ? layer.bias.detach().contiguous() : layer.bias, activation, y, pre);

  // saved: as dy, where there is an activation
  auto backward = [x, layer, activation, has_activation, x_dtype = x0.dtype()](const Tensors& dy,
                                                                               const Tensors& saved) -> Grads {
    Grads g(3);
    if (grad_enabled()) {
      const Tensor r = composed_rows(x);
      const Tensor dz = Composed(r, layer, activation).through(composed_rows(detail::joined(dy, -1)));
      if (x.requires_grad()) g[0] = reshape(matmul(dz, layer.weight), x.shape());
      Composed::parameters(dz, r, layer, g[1], g[2]);
      return g;
    }
    if (has_activation && layer.trains_bias()) g[2] = empty(layer.bias.shape(), layer.bias_dtype, dy[0].device());
    const Tensor dz = has_activation ? activation_grad(dy, saved, activation, g[2]) : rows_of(detail::joined(dy, -1));
    if (x.requires_grad()) g[0] = reshape(input_grad(dz, layer.weight, x_dtype), x.shape());
    parameter_grads(dz, rows_of(x), layer, g[1], g[2], has_activation);
    return g;
  };
  const auto in_parts = [parts](const Tensor& t) { return parts == 1 ? Tensors{t} : chunk(t, parts, -1); };
  const Tensors out = in_parts(reshape(y, with_last(x.shape(), weight.size(0))));
  if (activation == Activation::relu) return record(name, out, {x0, weight, bias}, backward);  // asks for its output
  const Tensors saved = pre.defined() ? in_parts(pre) : Tensors();
  return record(name, out, {x0, weight, bias}, [backward, saved](const Tensors& dy) { return backward(dy, saved); });
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, Activation activation) {
  return dense("linear", x, weight, bias, activation, 1)[0];
}

Tensors linear_chunk(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t n, Activation activation) {
  check(weight.dim() == 2 && n > 0 && weight.size(0) > 0 && weight.size(0) % n == 0, "linear_chunk: weight ",
        weight.shape(), " does not split into ", n, " equal parts");
  return dense("linear_chunk", x, weight, bias, activation, n);
}

// --- mlp ------------------------------------------------------------------------------------------------------------

Tensor mlp(const Tensor& x0, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2, const Tensor& bias2,
           const MlpOptions& options) {
  const Activation activation = options.activation;
  check_layer("mlp", x0.shape(), weight1, bias1);
  check_layer("mlp", with_last(x0.shape(), weight1.size(0)), weight2, bias2);
  check_same_device("mlp", {&x0, &weight1, &bias1, &weight2, &bias2});
  const Tensor x = Autocast::apply(x0);
  const Layer first(weight1, bias1), second(weight2, bias2);
  check_dtypes("mlp", x, first);
  check_dtypes("mlp", x, second);

  const bool differentiates = detail::must_record({x0, weight1, bias1, weight2, bias2});
  const bool keeps_argument = differentiates && activation != Activation::none && activation != Activation::relu;
  const auto forward = [](const Tensor& in, const Layer& l, Activation a, Tensor& y, Tensor& pre) {
    WEFT_KERNEL(in.device(), linear_forward, in, weight_operand(l.weight.detach()),
                l.bias.defined() ? l.bias.detach().contiguous() : l.bias, a, y, pre);
  };
  const Tensor rows = rows_of(x);
  Tensor h = empty({rows.size(0), weight1.size(0)}, x.dtype(), x.device());  // [r, hidden]
  Tensor y = empty({rows.size(0), weight2.size(0)}, x.dtype(), x.device());
  Tensor pre = keeps_argument ? empty_like(h) : Tensor(), none;
  forward(rows, first, activation, h, pre);
  forward(h, second, Activation::none, y, none);
  const bool again = options.recompute && keeps_argument;
  if (again) h = {};

  y = reshape(y, with_last(x.shape(), weight2.size(0)));
  return record("mlp", y, {x0, weight1, bias1, weight2, bias2},
                [x, first, second, activation, h, pre, x_dtype = x0.dtype()](const Tensor& dy0) -> Grads {
                  Grads g(5);
                  if (grad_enabled()) {
                    const Tensor r = composed_rows(x), dy = composed_rows(dy0);
                    const Composed hidden(r, first, activation);
                    Composed::parameters(dy, hidden.result, second, g[3], g[4]);
                    const Tensor dz = hidden.through(matmul(dy, second.weight));
                    if (x.requires_grad()) g[0] = reshape(matmul(dz, first.weight), x.shape());
                    Composed::parameters(dz, r, first, g[1], g[2]);
                    return g;
                  }
                  const Tensor dy = rows_of(dy0);
                  parameter_grads(dy, h.defined() ? h : activate(pre, activation), second, g[3], g[4]);
                  if (!x.requires_grad() && !first.trains_weight() && !first.trains_bias()) return g;
                  const Tensor dz = input_grad(dy, second.weight, dy.dtype(), activation, pre.defined() ? pre : h);
                  if (x.requires_grad()) g[0] = reshape(input_grad(dz, first.weight, x_dtype), x.shape());
                  parameter_grads(dz, rows_of(x), first, g[1], g[2]);
                  return g;
                });
}

}  // namespace weft
