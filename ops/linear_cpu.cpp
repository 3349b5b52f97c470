// Dense layers on the CPU: the matrix product, then bias and activation in one pass over its result.
#include <weft/cpu/strided.h>
#include <weft/ops/copy.h>
#include <weft/ops/elementwise_fn.h>
#include <weft/ops/linear.h>
#include <weft/ops/reduce.h>

namespace weft::cpu {

void matmul(const Tensor& a, const Tensor& b, const Tensor& c, Tensor& y);

namespace {

// A matrix as a batch of one.
Tensor one(const Tensor& x) {
  return as_strided_raw(x, {1, x.shape()[0], x.shape()[1]}, {0, x.strides()[0], x.strides()[1]}, x.impl().offset);
}
Tensor flipped(const Tensor& x) {
  return as_strided_raw(x, {x.shape()[1], x.shape()[0]}, {x.strides()[1], x.strides()[0]}, x.impl().offset);
}

void product(const Tensor& a, const Tensor& b, const Tensor& y) {
  Tensor out = one(y);
  matmul(one(a), one(b), {}, out);
}

// f(activation, its gradient) as functions of numbers.
template <class F>
void visit(Activation activation, F&& f) {
  switch (activation) {
    case Activation::none:
      return f([](auto x) { return x; }, [](auto, auto dy) { return dy; });
    case Activation::relu:
      return f(fn::Relu{}, fn::ReluGrad{});
    case Activation::gelu:
      return f(fn::Gelu{}, fn::GeluGrad{});
    case Activation::gelu_tanh:
      return f(fn::GeluTanh{}, fn::GeluTanhGrad{});
    case Activation::silu:
      return f(fn::Silu{}, fn::SiluGrad{});
  }
}

template <class F>
void dispatch(DType d, F&& f) {
  if (d == float64)
    f(Type<double>{});
  else
    f(Type<float>{});
}

void column_sums(const Tensor& x, Tensor& y) { copy_into(sum(x.dtype() == y.dtype() ? x : x.to(y.dtype()), 0), y); }

}  // namespace

void linear_forward(const Tensor& x, const Tensor& w, const Tensor& bias, Activation activation, Tensor& y,
                    Tensor& pre) {
  if (y.numel() == 0) return;
  // Half types get their bias before they are rounded.
  const Tensor z = is_half(y.dtype()) ? empty_like(y, float32) : pre.defined() ? pre : y;
  product(x, flipped(w), z);
  dispatch(y.dtype(), [&]<class C>(Type<C>) {
    visit(activation, [&](auto f, auto) {
      const auto add = [](C v, C b) { return v + b; };
      if (pre.defined()) {
        if (bias.defined())
          map<C, C>(add, z, bias, pre);
        else if (!z.same_as(pre))
          map<C, C>([](C v) { return v; }, z, pre);
        map<C, C>(f, pre, y);
      } else if (bias.defined()) {
        map<C, C>([f](C v, C b) { return f(v + b); }, z, bias, y);
      } else if (activation != Activation::none || !z.same_as(y)) {
        map<C, C>(f, z, y);
      }
    });
  });
}

void linear_activation_grad(const Tensor& dy, const Tensor& saved, Activation activation, Tensor& dz, Tensor& db) {
  dispatch(dz.dtype(),
           [&]<class C>(Type<C>) { visit(activation, [&](auto, auto grad) { map<C, C>(grad, saved, dy, dz); }); });
  if (db.defined()) column_sums(dz, db);
}

void linear_input_grad(const Tensor& dy, const Tensor& w, Activation activation, const Tensor& saved, Tensor& dx) {
  if (dx.numel() == 0) return;
  product(dy, w, dx);
  Tensor none;
  if (activation != Activation::none) linear_activation_grad(dx, saved, activation, dx, none);
}

void linear_weight_grad(const Tensor& dy, const Tensor& x, Tensor& dw, Tensor& db) {
  if (dw.defined() && dw.numel() > 0) {
    if (dw.strides()[1] != 1 && dw.strides()[0] == 1)  // lies transposed: dwᵀ = xᵀ·dy
      product(flipped(x), dy, flipped(dw));
    else
      product(flipped(dy), x, dw);
  }
  if (db.defined()) column_sums(dy, db);
}

}  // namespace weft::cpu
