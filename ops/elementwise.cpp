#include <weft/autograd/autograd.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/elementwise_fn.h>
#include <weft/ops/kernel.h>
#include <weft/ops/shape.h>

#include <cmath>
#include <numbers>
#include <utility>

namespace weft {

WEFT_DECLARE_KERNEL(unary, UnaryOp op, const Tensor& x, Tensor& y)
WEFT_DECLARE_KERNEL(binary, BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y)
WEFT_DECLARE_KERNEL(binary_scalar, BinaryOp op, const Tensor& x, Scalar s, bool scalar_first, DType compute, Tensor& y)
// da = dy·b, db = dy·a: floating tensors of one shape.
WEFT_DECLARE_KERNEL(mul_backward, const Tensor& a, const Tensor& b, const Tensor& dy, Tensor& da, Tensor& db)
// y = Σ a·b: floating tensors of one shape, and y of that shape with size 1 where it is summed.
WEFT_DECLARE_KERNEL(sum_product, const Tensor& a, const Tensor& b, Tensor& y)
WEFT_DECLARE_KERNEL(addcmul, const Tensor& a, const Tensor& b, const Tensor& c, Tensor& y)
WEFT_DECLARE_KERNEL(where, const Tensor& condition, const Tensor& a, const Tensor& b, Tensor& y)

// --- applying a kernel -----------------------------------------------------------------------------------------------

namespace {

Tensor apply(UnaryOp op, const Tensor& x, DType dtype) {
  Tensor y = empty(x.shape(), dtype, x.device());
  WEFT_KERNEL(x.device(), unary, op, x, y);
  return y;
}

// A function whose result is a float: integers are converted first.
template <class F>
Tensor float_function(const char* name, UnaryOp op, const Tensor& x, F&& backward) {
  const Tensor in = x.is_floating() ? x : x.to(float32);
  return record(name, apply(op, in, in.dtype()), {in}, std::forward<F>(backward));
}

int kind(DType d) { return is_floating(d) ? 2 : d == boolean ? 0 : 1; }

// PyTorch's rule for two tensors: one without dimensions counts as a number, whose dtype matters only where its kind
// (bool, integer, float) is higher.
DType promote(const Tensor& a, const Tensor& b) {
  if (a.dim() > 0 && b.dim() == 0 && kind(b.dtype()) <= kind(a.dtype()) && kind(a.dtype()) > 0) return a.dtype();
  if (b.dim() > 0 && a.dim() == 0 && kind(a.dtype()) <= kind(b.dtype()) && kind(b.dtype()) > 0) return b.dtype();
  return promote(a.dtype(), b.dtype());
}

// A 0-dim CPU tensor may meet a CUDA one: it is moved. One that counts as a number takes the other's dtype.
void meet(const char* name, const Tensor& a, const Tensor& b, Tensor& a_out, Tensor& b_out) {
  a_out = a, b_out = b;
  if (a.dtype() != b.dtype() && a.dim() != b.dim()) {
    const DType d = promote(a, b);
    if (a.dim() == 0) a_out = a.to(d);
    if (b.dim() == 0) b_out = b.to(d);
  }
  if (a.device() == b.device()) return;
  if (a.dim() == 0 && a.device().is_cpu())
    a_out = a_out.to(b.device());
  else if (b.dim() == 0 && b.device().is_cpu())
    b_out = b_out.to(a.device());
  else
    check_same_device(name, {&a, &b});
}

Tensor apply(const char* name, BinaryOp op, const Tensor& a, const Tensor& b, DType dtype) {
  Tensor y = empty(broadcast_shapes(a.shape(), b.shape(), name), dtype, a.device());
  WEFT_KERNEL(a.device(), binary, op, a, b, y);
  return y;
}

DType promote(const Tensor& x, Scalar s) {
  if (x.is_floating()) return x.dtype();
  if (!s.is_integral()) return float32;
  return x.dtype() == boolean ? int64 : x.dtype();
}

Tensor apply(BinaryOp op, const Tensor& x, Scalar s, bool scalar_first, DType compute, DType dtype) {
  Tensor y = empty(x.shape(), dtype, x.device());
  WEFT_KERNEL(x.device(), binary_scalar, op, x, s, scalar_first, compute, y);
  return y;
}

template <class F>
Tensor arithmetic(const char* name, BinaryOp op, const Tensor& a0, const Tensor& b0, F&& make_backward) {
  Tensor a, b;
  meet(name, a0, b0, a, b);
  return record(name, apply(name, op, a, b, promote(a.dtype(), b.dtype())), {a, b}, make_backward(a, b));
}

template <class F>
Tensor arithmetic(const char* name, BinaryOp op, const Tensor& x, Scalar s, bool scalar_first, F&& backward) {
  const DType dtype = promote(x, s);
  return record(name, apply(op, x, s, scalar_first, dtype, dtype), {x}, std::forward<F>(backward));
}

Tensor compare(const char* name, BinaryOp op, const Tensor& a0, const Tensor& b0) {
  Tensor a, b;
  meet(name, a0, b0, a, b);
  return apply(name, op, a, b, boolean);
}
Tensor compare(BinaryOp op, const Tensor& x, Scalar s) {
  return apply(op, x, s, false,
               x.is_floating() || s.is_integral() ? (x.dtype() == boolean ? int64 : x.dtype()) : float64, boolean);
}

Tensor as_float(const Tensor& x) { return x.is_floating() ? x : x.to(float32); }
// An integer beside a float takes its dtype, two integers become float32.
std::pair<Tensor, Tensor> as_floats(const Tensor& a, const Tensor& b) {
  if (a.is_floating() != b.is_floating())
    return {a.is_floating() ? a : a.to(b.dtype()), b.is_floating() ? b : b.to(a.dtype())};
  return {as_float(a), as_float(b)};
}

}  // namespace

// --- arithmetic ------------------------------------------------------------------------------------------------------

Tensor add(const Tensor& a, const Tensor& b) {
  return arithmetic("add", BinaryOp::add, a, b, [](const Tensor&, const Tensor&) {
    return [](const Tensor& dy) -> Grads { return {dy, dy}; };
  });
}
Tensor add(const Tensor& a, Scalar b) {
  return arithmetic("add", BinaryOp::add, a, b, false, [](const Tensor& dy) -> Grads { return {dy}; });
}

Tensor sub(const Tensor& a, const Tensor& b) {
  check(a.dtype() != boolean || b.dtype() != boolean, "sub: not for two bools; use logical_xor");
  return arithmetic("sub", BinaryOp::sub, a, b, [](const Tensor&, const Tensor& b) {
    return [needs = b.requires_grad()](const Tensor& dy) -> Grads { return {dy, needs ? neg(dy) : Tensor()}; };
  });
}
Tensor sub(const Tensor& a, Scalar b) {
  return arithmetic("sub", BinaryOp::sub, a, b, false, [](const Tensor& dy) -> Grads { return {dy}; });
}
Tensor sub(Scalar a, const Tensor& b) {
  return arithmetic("sub", BinaryOp::sub, b, a, true, [](const Tensor& dy) -> Grads { return {neg(dy)}; });
}

namespace {
// The gradient of a factor: dy times the other one, summed where the factor was repeated without writing the product.
Tensor factor_gradient(const Tensor& factor, const Tensor& other, const Tensor& dy) {
  const bool small = dy.numel() < int64_t{1} << 31;  // what the kernel can number
  if (grad_enabled() || factor.shape() == dy.shape() || !other.is_floating() || !small) return mul(dy, other);
  Shape kept(static_cast<size_t>(dy.dim() - factor.dim()), 1);
  for (const int64_t n : factor.shape()) kept.push_back(n);
  Tensor y = empty(kept, factor.dtype(), dy.device());
  WEFT_KERNEL(dy.device(), sum_product, dy, expand(other.detach(), dy.shape()), y);
  return reshape(y, factor.shape());
}
}  // namespace
Tensor mul(const Tensor& a, const Tensor& b) {
  return arithmetic("mul", BinaryOp::mul, a, b, [](const Tensor& a, const Tensor& b) {
    return [a, b](const Tensor& dy) -> Grads {
      const bool wants_a = a.requires_grad(), wants_b = b.requires_grad();
      if (wants_a && wants_b && !grad_enabled() && a.shape() == b.shape() && a.shape() == dy.shape()) {
        Tensor da = empty(a.shape(), a.dtype(), a.device()), db = empty(b.shape(), b.dtype(), b.device());
        WEFT_KERNEL(dy.device(), mul_backward, a, b, dy, da, db);
        return {da, db};
      }
      return {wants_a ? factor_gradient(a, b, dy) : Tensor(), wants_b ? factor_gradient(b, a, dy) : Tensor()};
    };
  });
}
Tensor mul(const Tensor& a, Scalar b) {
  return arithmetic("mul", BinaryOp::mul, a, b, false, [b](const Tensor& dy) -> Grads { return {mul(dy, b)}; });
}

Tensor div(const Tensor& a0, const Tensor& b0) {
  const auto [x, y] = as_floats(a0, b0);
  return arithmetic("div", BinaryOp::div, x, y, [](const Tensor& a, const Tensor& b) {
    return [a, b](const Tensor& dy) -> Grads {
      return {a.requires_grad() ? div(dy, b) : Tensor(),
              b.requires_grad() ? neg(div(mul(dy, div(a, b)), b)) : Tensor()};
    };
  });
}
Tensor div(const Tensor& a, Scalar b) {
  return arithmetic("div", BinaryOp::div, as_float(a), b, false,
                    [b](const Tensor& dy) -> Grads { return {div(dy, b)}; });
}
Tensor div(Scalar a, const Tensor& b0) {
  const Tensor b = as_float(b0);
  return arithmetic("div", BinaryOp::div, b, a, true,
                    [a, b](const Tensor& dy) -> Grads { return {div(mul(dy, neg(div(a, b))), b)}; });
}

Tensor pow(const Tensor& a, const Tensor& b) {
  return arithmetic("pow", BinaryOp::pow, a, b, [](const Tensor& a, const Tensor& b) {
    return [a, b](const Tensor& dy) -> Grads {
      Grads g(2);
      // b·a^(b-1), 0 where b is 0; a^b·log a, 0 where a is 0 and the limit is.
      if (a.requires_grad()) g[0] = where(eq(b, 0), Scalar(0.0), mul(dy, mul(b, pow(a, sub(b, 1)))));
      if (b.requires_grad()) {
        const Tensor zero = logical_and(eq(a, 0), ge(b, 0));
        g[1] = where(zero, Scalar(0.0), mul(dy, mul(pow(a, b), log(where(zero, Scalar(1.0), a)))));
      }
      return g;
    };
  });
}
Tensor pow(const Tensor& a, Scalar b) {
  return arithmetic("pow", BinaryOp::pow, a, b, false, [a, b](const Tensor& dy) -> Grads {
    if (b.to_double() == 0) return {zeros_like(dy)};
    return {mul(dy, mul(pow(a, b.to_double() - 1), b))};
  });
}
Tensor pow(Scalar a, const Tensor& b0) {
  const Tensor b = as_float(b0);
  return arithmetic("pow", BinaryOp::pow, b, a, true, [a, b](const Tensor& dy, const Tensor& y) -> Grads {
    if (a.to_double() == 0) return {mul(dy, where(ge(b, 0), zeros_like(b), full_like(b, -INFINITY)))};
    return {mul(dy, mul(y, std::log(a.to_double())))};
  });
}

namespace {
auto pick_backward(Tensor (*wins)(const Tensor&, const Tensor&)) {
  return [wins](const Tensor& a, const Tensor& b) {
    return [a, b, wins](const Tensor& dy) -> Grads {
      const Tensor share =
          where(eq(a, b), full({}, 0.5, {.dtype = dy.dtype(), .device = dy.device()}), wins(a, b).to(dy.dtype()));
      return {mul(dy, share), mul(dy, sub(1, share))};
    };
  };
}
}  // namespace
Tensor maximum(const Tensor& a, const Tensor& b) {
  return arithmetic("maximum", BinaryOp::maximum, a, b, pick_backward(gt));
}
Tensor minimum(const Tensor& a, const Tensor& b) {
  return arithmetic("minimum", BinaryOp::minimum, a, b, pick_backward(lt));
}

Tensor fmod(const Tensor& a, const Tensor& b) {
  return arithmetic("fmod", BinaryOp::fmod, a, b, [](const Tensor& a, const Tensor& b) {
    return [a, b](const Tensor& dy) -> Grads {
      return {dy, b.requires_grad() ? neg(mul(dy, trunc(div(a, b)))) : Tensor()};
    };
  });
}
Tensor fmod(const Tensor& a, Scalar b) {
  return arithmetic("fmod", BinaryOp::fmod, a, b, false, [](const Tensor& dy) -> Grads { return {dy}; });
}
Tensor remainder(const Tensor& a, const Tensor& b) {
  return arithmetic("remainder", BinaryOp::remainder, a, b, [](const Tensor& a, const Tensor& b) {
    return [a, b](const Tensor& dy) -> Grads {
      return {dy, b.requires_grad() ? neg(mul(dy, floor_divide(a, b))) : Tensor()};
    };
  });
}
Tensor remainder(const Tensor& a, Scalar b) {
  return arithmetic("remainder", BinaryOp::remainder, a, b, false, [](const Tensor& dy) -> Grads { return {dy}; });
}
Tensor floor_divide(const Tensor& a0, const Tensor& b0) {
  Tensor a, b;
  meet("floor_divide", a0, b0, a, b);
  return apply("floor_divide", BinaryOp::floor_divide, a, b, promote(a.dtype(), b.dtype()));
}
Tensor floor_divide(const Tensor& a, Scalar b) {
  const DType dtype = promote(a, b);
  return apply(BinaryOp::floor_divide, a, b, false, dtype, dtype);
}
Tensor atan2(const Tensor& a0, const Tensor& b0) {
  const auto [x, y] = as_floats(a0, b0);
  return arithmetic("atan2", BinaryOp::atan2, x, y, [](const Tensor& a, const Tensor& b) {
    return [a, b](const Tensor& dy) -> Grads {
      const Tensor scaled = div(dy, add(square(a), square(b)));
      return {mul(scaled, b), neg(mul(scaled, a))};
    };
  });
}

Tensor addcmul(const Tensor& a, const Tensor& b, const Tensor& c) {
  check(a.is_floating() && b.is_floating() && c.is_floating(), "addcmul: expected floating tensors, got ", a.dtype(),
        ", ", b.dtype(), " and ", c.dtype());
  check_same_device("addcmul", {&a, &b, &c});
  const Shape shape = broadcast_shapes(a.shape(), broadcast_shapes(b.shape(), c.shape(), "addcmul"), "addcmul");
  Tensor y = empty(shape, promote(a.dtype(), promote(b.dtype(), c.dtype())), a.device());
  WEFT_KERNEL(a.device(), addcmul, a, b, c, y);
  return record("addcmul", y, {a, b, c}, [b, c](const Tensor& dy) -> Grads {
    return {dy, b.requires_grad() ? factor_gradient(b, c, dy) : Tensor(),
            c.requires_grad() ? factor_gradient(c, b, dy) : Tensor()};
  });
}

// --- comparisons and choice ------------------------------------------------------------------------------------------

Tensor eq(const Tensor& a, const Tensor& b) { return compare("eq", BinaryOp::eq, a, b); }
Tensor eq(const Tensor& a, Scalar b) { return compare(BinaryOp::eq, a, b); }
Tensor ne(const Tensor& a, const Tensor& b) { return compare("ne", BinaryOp::ne, a, b); }
Tensor ne(const Tensor& a, Scalar b) { return compare(BinaryOp::ne, a, b); }
Tensor lt(const Tensor& a, const Tensor& b) { return compare("lt", BinaryOp::lt, a, b); }
Tensor lt(const Tensor& a, Scalar b) { return compare(BinaryOp::lt, a, b); }
Tensor le(const Tensor& a, const Tensor& b) { return compare("le", BinaryOp::le, a, b); }
Tensor le(const Tensor& a, Scalar b) { return compare(BinaryOp::le, a, b); }
Tensor gt(const Tensor& a, const Tensor& b) { return compare("gt", BinaryOp::gt, a, b); }
Tensor gt(const Tensor& a, Scalar b) { return compare(BinaryOp::gt, a, b); }
Tensor ge(const Tensor& a, const Tensor& b) { return compare("ge", BinaryOp::ge, a, b); }
Tensor ge(const Tensor& a, Scalar b) { return compare(BinaryOp::ge, a, b); }
Tensor logical_and(const Tensor& a, const Tensor& b) { return compare("logical_and", BinaryOp::logical_and, a, b); }
Tensor logical_or(const Tensor& a, const Tensor& b) { return compare("logical_or", BinaryOp::logical_or, a, b); }
Tensor logical_xor(const Tensor& a, const Tensor& b) { return compare("logical_xor", BinaryOp::logical_xor, a, b); }
Tensor logical_not(const Tensor& x) { return apply(UnaryOp::logical_not, x, boolean); }
Tensor isnan(const Tensor& x) { return apply(UnaryOp::isnan, as_float(x), boolean); }
Tensor isinf(const Tensor& x) { return apply(UnaryOp::isinf, as_float(x), boolean); }
Tensor isfinite(const Tensor& x) { return apply(UnaryOp::isfinite, as_float(x), boolean); }

Tensor where(const Tensor& condition, const Tensor& a0, const Tensor& b0) {
  check(condition.dtype() == boolean, "where: the condition must be bool, got ", condition.dtype());
  Tensor a, b;
  meet("where", a0, b0, a, b);
  check_same_device("where", {&condition, &a, &b});
  const Shape shape = broadcast_shapes(condition.shape(), broadcast_shapes(a.shape(), b.shape(), "where"), "where");
  Tensor y = empty(shape, promote(a.dtype(), b.dtype()), a.device());
  WEFT_KERNEL(a.device(), where, condition, a, b, y);
  return record("where", y, {a, b},
                [condition, na = a.requires_grad(), nb = b.requires_grad()](const Tensor& dy) -> Grads {
                  return {na ? where(condition, dy, 0.0) : Tensor(), nb ? where(condition, 0.0, dy) : Tensor()};
                });
}
namespace {
Tensor constant_like(const Tensor& x, Scalar v) { return full({}, v, {.dtype = promote(x, v), .device = x.device()}); }
}  // namespace
Tensor where(const Tensor& condition, const Tensor& a, Scalar b) { return where(condition, a, constant_like(a, b)); }
Tensor where(const Tensor& condition, Scalar a, const Tensor& b) { return where(condition, constant_like(b, a), b); }
Tensor masked_fill(const Tensor& x, const Tensor& mask, Scalar value) {
  check(mask.dtype() == boolean, "masked_fill: the mask must be bool, got ", mask.dtype());
  check(broadcast_shapes(x.shape(), mask.shape(), "masked_fill") == x.shape(), "masked_fill: mask ", mask.shape(),
        " does not broadcast to ", x.shape());
  return where(mask, full({}, value, {.dtype = x.dtype(), .device = x.device()}), x);
}

// --- functions of one tensor -----------------------------------------------------------------------------------------

Tensor neg(const Tensor& x) {
  check(x.dtype() != boolean, "neg: not for bool; use logical_not");
  return record("neg", apply(UnaryOp::neg, x, x.dtype()), {x}, [](const Tensor& dy) -> Grads { return {neg(dy)}; });
}
Tensor abs(const Tensor& x) {
  return record("abs", apply(UnaryOp::abs, x, x.dtype()), {x},
                [x](const Tensor& dy) -> Grads { return {mul(dy, sign(x))}; });
}
Tensor sign(const Tensor& x) {
  return record("sign", apply(UnaryOp::sign, x, x.dtype()), {x},
                [](const Tensor& dy) -> Grads { return {zeros_like(dy)}; });
}
Tensor square(const Tensor& x) {
  return record("square", apply(UnaryOp::square, x, x.dtype()), {x},
                [x](const Tensor& dy) -> Grads { return {mul(dy, mul(x, 2))}; });
}
Tensor reciprocal(const Tensor& x) {
  return float_function("reciprocal", UnaryOp::reciprocal, x,
                        [](const Tensor& dy, const Tensor& y) -> Grads { return {neg(mul(dy, square(y)))}; });
}
Tensor sqrt(const Tensor& x) {
  return float_function("sqrt", UnaryOp::sqrt, x,
                        [](const Tensor& dy, const Tensor& y) -> Grads { return {div(dy, mul(y, 2))}; });
}
Tensor rsqrt(const Tensor& x) {
  return float_function("rsqrt", UnaryOp::rsqrt, x, [](const Tensor& dy, const Tensor& y) -> Grads {
    return {mul(dy, mul(mul(square(y), y), -0.5))};
  });
}
Tensor exp(const Tensor& x) {
  return float_function("exp", UnaryOp::exp, x,
                        [](const Tensor& dy, const Tensor& y) -> Grads { return {mul(dy, y)}; });
}
Tensor exp2(const Tensor& x) {
  return float_function("exp2", UnaryOp::exp2, x, [](const Tensor& dy, const Tensor& y) -> Grads {
    return {mul(dy, mul(y, std::numbers::ln2))};
  });
}
Tensor expm1(const Tensor& x) {
  return float_function("expm1", UnaryOp::expm1, x,
                        [](const Tensor& dy, const Tensor& y) -> Grads { return {mul(dy, add(y, 1))}; });
}
Tensor log(const Tensor& x) {
  return float_function("log", UnaryOp::log, x, [x](const Tensor& dy) -> Grads { return {div(dy, x)}; });
}
Tensor log2(const Tensor& x) {
  return float_function("log2", UnaryOp::log2, x,
                        [x](const Tensor& dy) -> Grads { return {div(dy, mul(x, std::numbers::ln2))}; });
}
Tensor log10(const Tensor& x) {
  return float_function("log10", UnaryOp::log10, x,
                        [x](const Tensor& dy) -> Grads { return {div(dy, mul(x, std::numbers::ln10))}; });
}
Tensor log1p(const Tensor& x) {
  return float_function("log1p", UnaryOp::log1p, x, [x](const Tensor& dy) -> Grads { return {div(dy, add(x, 1))}; });
}
Tensor sin(const Tensor& x) {
  return float_function("sin", UnaryOp::sin, x, [x](const Tensor& dy) -> Grads { return {mul(dy, cos(x))}; });
}
Tensor cos(const Tensor& x) {
  return float_function("cos", UnaryOp::cos, x, [x](const Tensor& dy) -> Grads { return {neg(mul(dy, sin(x)))}; });
}
Tensor tan(const Tensor& x) {
  return float_function("tan", UnaryOp::tan, x,
                        [](const Tensor& dy, const Tensor& y) -> Grads { return {mul(dy, add(square(y), 1))}; });
}
Tensor asin(const Tensor& x) {
  return float_function("asin", UnaryOp::asin, x,
                        [x](const Tensor& dy) -> Grads { return {mul(dy, rsqrt(sub(1, square(x))))}; });
}
Tensor acos(const Tensor& x) {
  return float_function("acos", UnaryOp::acos, x,
                        [x](const Tensor& dy) -> Grads { return {neg(mul(dy, rsqrt(sub(1, square(x)))))}; });
}
Tensor atan(const Tensor& x) {
  return float_function("atan", UnaryOp::atan, x,
                        [x](const Tensor& dy) -> Grads { return {div(dy, add(square(x), 1))}; });
}
Tensor sinh(const Tensor& x) {
  return float_function("sinh", UnaryOp::sinh, x, [x](const Tensor& dy) -> Grads { return {mul(dy, cosh(x))}; });
}
Tensor cosh(const Tensor& x) {
  return float_function("cosh", UnaryOp::cosh, x, [x](const Tensor& dy) -> Grads { return {mul(dy, sinh(x))}; });
}
Tensor tanh(const Tensor& x) {
  return float_function("tanh", UnaryOp::tanh, x,
                        [](const Tensor& dy, const Tensor& y) -> Grads { return {mul(dy, sub(1, square(y)))}; });
}
Tensor asinh(const Tensor& x) {
  return float_function("asinh", UnaryOp::asinh, x,
                        [x](const Tensor& dy) -> Grads { return {mul(dy, rsqrt(add(square(x), 1)))}; });
}
Tensor acosh(const Tensor& x) {
  return float_function("acosh", UnaryOp::acosh, x,
                        [x](const Tensor& dy) -> Grads { return {mul(dy, rsqrt(sub(square(x), 1)))}; });
}
Tensor atanh(const Tensor& x) {
  return float_function("atanh", UnaryOp::atanh, x,
                        [x](const Tensor& dy) -> Grads { return {div(dy, sub(1, square(x)))}; });
}
Tensor erf(const Tensor& x) {
  return float_function("erf", UnaryOp::erf, x, [x](const Tensor& dy) -> Grads {
    return {mul(dy, mul(exp(neg(square(x))), 2 * std::numbers::inv_sqrtpi))};
  });
}
Tensor erfc(const Tensor& x) {
  return float_function("erfc", UnaryOp::erfc, x, [x](const Tensor& dy) -> Grads {
    return {mul(dy, mul(exp(neg(square(x))), -2 * std::numbers::inv_sqrtpi))};
  });
}
Tensor lgamma(const Tensor& x) {
  const Tensor in = as_float(x);
  return record("lgamma", apply(UnaryOp::lgamma, in, in.dtype()), {in},
                [](const Tensor&) -> Grads { fail("lgamma: has no derivative here; detach its input"); });
}

namespace {
// Steps: constant between jumps, so the gradient is 0.
Tensor step_function(const char* name, UnaryOp op, const Tensor& x) {
  if (!x.is_floating()) return x;
  return record(name, apply(op, x, x.dtype()), {x}, [](const Tensor& dy) -> Grads { return {zeros_like(dy)}; });
}
}  // namespace
Tensor floor(const Tensor& x) { return step_function("floor", UnaryOp::floor, x); }
Tensor ceil(const Tensor& x) { return step_function("ceil", UnaryOp::ceil, x); }
Tensor round(const Tensor& x) { return step_function("round", UnaryOp::round, x); }
Tensor trunc(const Tensor& x) { return step_function("trunc", UnaryOp::trunc, x); }

Tensor clamp_min(const Tensor& x, Scalar low) {
  return arithmetic("clamp_min", BinaryOp::maximum, x, low, false,
                    [x, low](const Tensor& dy) -> Grads { return {where(ge(x, low), dy, 0.0)}; });
}
Tensor clamp_max(const Tensor& x, Scalar high) {
  return arithmetic("clamp_max", BinaryOp::minimum, x, high, false,
                    [x, high](const Tensor& dy) -> Grads { return {where(le(x, high), dy, 0.0)}; });
}
Tensor clamp(const Tensor& x, Scalar low, Scalar high) { return clamp_max(clamp_min(x, low), high); }

// --- activations -----------------------------------------------------------------------------------------------------

namespace {
// dy·f'(x): one kernel in an ordinary sweep, the composition when the gradient is to be differentiated again.
template <class F>
auto activation_backward(BinaryOp grad_op, const Tensor& x, F derivative) {
  return [grad_op, x, derivative](const Tensor& dy) -> Grads {
    if (grad_enabled()) return {mul(dy, derivative(x))};
    Tensor dx = detail::gradient_like(x);
    WEFT_KERNEL(x.device(), binary, grad_op, x, dy, dx);
    return {dx};
  };
}
}  // namespace

Tensor sigmoid(const Tensor& x) {
  return float_function("sigmoid", UnaryOp::sigmoid, x, [x](const Tensor& dy, const Tensor& y) -> Grads {
    return {mul(dy, mul(y, sigmoid(neg(x))))};  // 1 - y would lose its digits where y is almost 1
  });
}
Tensor softplus(const Tensor& x) {
  return float_function("softplus", UnaryOp::softplus, x,
                        [x](const Tensor& dy) -> Grads { return {mul(dy, sigmoid(x))}; });
}
Tensor log_sigmoid(const Tensor& x) {
  return float_function("log_sigmoid", UnaryOp::log_sigmoid, x,
                        [x](const Tensor& dy) -> Grads { return {mul(dy, sigmoid(neg(x)))}; });
}
Tensor relu(const Tensor& x) {
  return record("relu", apply(UnaryOp::relu, x, x.dtype()), {x},
                activation_backward(BinaryOp::relu_grad, x, [](const Tensor& x) { return gt(x, 0).to(x.dtype()); }));
}
Tensor leaky_relu(const Tensor& x, double slope) { return where(gt(x, 0), x, mul(x, slope)); }
Tensor elu(const Tensor& x, double alpha) { return where(gt(x, 0), x, mul(expm1(clamp_max(x, 0)), alpha)); }
Tensor gelu(const Tensor& x) {
  return float_function(
      "gelu", UnaryOp::gelu, x, activation_backward(BinaryOp::gelu_grad, x, [](const Tensor& x) {
        const Tensor cdf = mul(add(erf(mul(x, std::numbers::sqrt2 / 2)), 1), 0.5);
        return add(cdf, mul(x, mul(exp(mul(square(x), -0.5)), std::numbers::inv_sqrtpi * std::numbers::sqrt2 / 2)));
      }));
}
Tensor gelu_tanh(const Tensor& x) {
  return float_function("gelu_tanh", UnaryOp::gelu_tanh, x,
                        activation_backward(BinaryOp::gelu_tanh_grad, x, [](const Tensor& x) {
                          const double c = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
                          const Tensor x2 = square(x), t = tanh(mul(mul(x, add(mul(x2, 0.044715), 1)), c));
                          const Tensor inner = mul(add(mul(x2, 3 * 0.044715), 1), c);
                          return add(mul(add(t, 1), 0.5), mul(mul(mul(x, 0.5), sub(1, square(t))), inner));
                        }));
}
Tensor silu(const Tensor& x) {
  return float_function("silu", UnaryOp::silu, x, activation_backward(BinaryOp::silu_grad, x, [](const Tensor& x) {
                          const Tensor s = sigmoid(x);
                          return mul(s, add(mul(x, sub(1, s)), 1));
                        }));
}
Tensor mish(const Tensor& x) {
  return float_function("mish", UnaryOp::mish, x, activation_backward(BinaryOp::mish_grad, x, [](const Tensor& x) {
                          const Tensor t = tanh(softplus(x));
                          return add(t, mul(mul(x, sub(1, square(t))), sigmoid(x)));
                        }));
}
Tensor relu_squared(const Tensor& x) { return square(relu(x)); }

}  // namespace weft
