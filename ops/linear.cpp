#include <weft/autograd/autograd.h>
#include <weft/autograd/node.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/glu_fn.h>
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

// A matrix that the kernels take: rows of stride 1, or for a weight columns.
Tensor row_major(const Tensor& x) {
  return (x.strides()[1] == 1 || x.size(1) == 1) && (x.strides()[0] >= x.size(1) || x.size(0) == 1) ? x
                                                                                                    : x.contiguous();
}
Tensor weight_operand(const Tensor& w) {
  const bool columns = w.strides()[0] == 1 && w.strides()[1] >= w.size(0);
  return columns ? w : row_major(w);
}

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

  // y = activation(x·weightᵀ + bias), not recorded; pre, if defined, gets the activation's argument.
  void forward(const Tensor& x, Activation activation, Tensor& y, Tensor& pre) const {
    WEFT_KERNEL(x.device(), linear_forward, x, weight_operand(weight.detach()),
                bias.defined() ? bias.detach().contiguous() : bias, activation, y, pre);
  }
};

void check_layer(const char* op, const Shape& x, const Tensor& w, const Tensor& b) {
  check(w.dim() == 2, op, ": expected a weight [out, in], got ", w.shape());
  check(x.size() >= 1 && x.back() == w.size(1), op, ": input ", x, " does not fit weight ", w.shape());
  check(!b.defined() || b.shape() == Shape{w.size(0)}, op, ": bias ", b.defined() ? b.shape() : Shape(),
        " does not fit weight ", w.shape());
}

void check_dtypes(const char* op, const Tensor& x, const Layer& l) {
  check(x.is_floating(), op, ": expected floating tensors, got ", x.dtype());
  check(x.dtype() == l.weight.dtype() && (!l.bias.defined() || l.bias.dtype() == x.dtype()), op,
        ": dtypes differ: input ", x.dtype(), ", weight ", l.weight.dtype(), ", bias ",
        l.bias.defined() ? l.bias.dtype() : l.weight.dtype());
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

Tensor activation_grad(const Tensor& dy, const Tensor& saved, Activation activation, Tensor& db) {
  Tensor dz = empty(dy.shape(), dy.dtype(), dy.device());
  WEFT_KERNEL(dz.device(), linear_activation_grad, dy, saved, activation, dz, db);
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

Tensor linear(const Tensor& x0, const Tensor& weight, const Tensor& bias, Activation activation) {
  check_layer("linear", x0.shape(), weight, bias);
  check_same_device("linear", {&x0, &weight, &bias});
  const Tensor x = Autocast::apply(x0);
  const Layer layer(weight, bias);
  check_dtypes("linear", x, layer);
  const bool has_activation = activation != Activation::none;

  // What the gradient of the activation is computed from: its argument, but for relu its result.
  const bool differentiates = detail::must_record({x0, weight, bias});
  const bool keeps_argument = differentiates && has_activation && activation != Activation::relu;
  const Tensor rows = rows_of(x);
  Tensor y = empty({rows.size(0), weight.size(0)}, x.dtype(), x.device());
  Tensor pre = keeps_argument ? empty_like(y) : Tensor();
  layer.forward(rows, activation, y, pre);

  // saved: [r, out], where there is an activation
  auto backward = [x, layer, activation, has_activation, x_dtype = x0.dtype()](const Tensor& dy,
                                                                               const Tensor& saved) -> Grads {
    Grads g(3);
    if (grad_enabled()) {
      const Tensor r = composed_rows(x);
      const Tensor dz = Composed(r, layer, activation).through(composed_rows(dy));
      if (x.requires_grad()) g[0] = reshape(matmul(dz, layer.weight), x.shape());
      Composed::parameters(dz, r, layer, g[1], g[2]);
      return g;
    }
    if (has_activation && layer.trains_bias()) g[2] = empty(layer.bias.shape(), layer.bias_dtype, dy.device());
    const Tensor dz = has_activation ? activation_grad(rows_of(dy), saved, activation, g[2]) : rows_of(dy);
    if (x.requires_grad()) g[0] = reshape(input_grad(dz, layer.weight, x_dtype), x.shape());
    parameter_grads(dz, rows_of(x), layer, g[1], g[2], has_activation);
    return g;
  };
  const Tensor out = reshape(y, with_last(x.shape(), weight.size(0)));
  if (activation == Activation::relu)  // asks for its output
    return record("linear", out, {x0, weight, bias},
                  [backward](const Tensor& dy, const Tensor& result) { return backward(dy, rows_of(result)); });
  return record("linear", out, {x0, weight, bias}, [backward, pre](const Tensor& dy) { return backward(dy, pre); });
}

Tensor swiglu_linear(const Tensor& value0, const Tensor& gate0, const Tensor& weight, const Tensor& bias) {
  const char* name = "swiglu_linear";
  check(value0.shape() == gate0.shape(), name, ": value ", value0.shape(), " and gate ", gate0.shape(),
        " differ in shape");
  check_layer(name, value0.shape(), weight, bias);
  check_same_device(name, {&value0, &gate0, &weight, &bias});
  const Tensor value = Autocast::apply(value0), gate = Autocast::apply(gate0);
  const Layer layer(weight, bias);
  check_dtypes(name, value, layer);
  check_dtypes(name, gate, layer);

  Tensor h = empty(value.shape(), value.dtype(), value.device()), none;
  WEFT_KERNEL(h.device(), glu, Gate::silu, value.detach(), gate.detach(), h);
  const Tensor rows = rows_of(h);
  Tensor y = empty({rows.size(0), weight.size(0)}, h.dtype(), h.device());
  layer.forward(rows, Activation::none, y, none);
  y = reshape(y, with_last(value.shape(), weight.size(0)));
  return record(name, y, {value0, gate0, weight, bias}, [value, gate, layer](const Tensor& dy0) -> Grads {
    Grads g(4);
    if (grad_enabled()) {
      const Tensor f = silu(gate), dy = composed_rows(dy0);
      const Tensor dh = reshape(matmul(dy, layer.weight), value.shape()), df = mul(dh, value);
      g[0] = mul(dh, f);
      if (gate.requires_grad()) g[1] = f.grad_fn()->backward({df}, {f})[0];
      Composed::parameters(dy, composed_rows(mul(value, f)), layer, g[2], g[3]);
      return g;
    }
    const Tensor dy = rows_of(dy0), v = value.detach(), s = gate.detach();
    Tensor h = empty(value.shape(), value.dtype(), value.device());  // once more
    if (value.requires_grad() || gate.requires_grad()) {
      const Tensor dh = reshape(input_grad(dy, layer.weight, dy.dtype()), value.shape());
      g[0] = detail::gradient_like(value), g[1] = detail::gradient_like(gate);
      WEFT_KERNEL(h.device(), glu_backward, Gate::silu, v, s, dh, g[0], g[1], h);
    } else {
      WEFT_KERNEL(h.device(), glu, Gate::silu, v, s, h);
    }
    parameter_grads(dy, rows_of(h), layer, g[2], g[3]);
    return g;
  });
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
  const Tensor rows = rows_of(x);
  Tensor h = empty({rows.size(0), weight1.size(0)}, x.dtype(), x.device());  // [r, hidden]
  Tensor y = empty({rows.size(0), weight2.size(0)}, x.dtype(), x.device());
  Tensor pre = keeps_argument ? empty_like(h) : Tensor(), none;
  first.forward(rows, activation, h, pre);
  second.forward(h, Activation::none, y, none);
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
