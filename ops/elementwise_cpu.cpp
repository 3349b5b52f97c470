#include <weft/cpu/strided.h>
#include <weft/ops/elementwise_fn.h>
#include <weft/ops/reduce_op.h>

namespace weft::cpu {

void reduce(ReduceOp op, const Tensor& x, Tensor& y);  // ops/reduce_cpu.cpp

void unary(UnaryOp op, const Tensor& x, Tensor& y) {
  visit(op, [&]<class F>(F f) {
    dispatch_compute(x.dtype(), [&]<class C>(Type<C>) {
      if constexpr (F::kIntegers || !std::is_integral_v<C>)
        map<C, decltype(f(C()))>(f, x, y);
      else
        fail("elementwise: integer input");
    });
  });
}

void binary(BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y) {
  visit(op, [&]<class F>(F f) {
    dispatch_compute(promote(a.dtype(), b.dtype()), [&]<class C>(Type<C>) {
      if constexpr (F::kIntegers || !std::is_integral_v<C>)
        map<C, decltype(f(C(), C()))>(f, a, b, y);
      else
        fail("elementwise: integer input");
    });
  });
}

// The scalar counts as a value of the tensor's kind; where it is the first operand, scalar_first.
void binary_scalar(BinaryOp op, const Tensor& x, Scalar s, bool scalar_first, DType compute, Tensor& y) {
  visit(op, [&]<class F>(F f) {
    dispatch_compute(compute, [&]<class C>(Type<C>) {
      if constexpr (F::kIntegers || !std::is_integral_v<C>) {
        const C v = s.to<C>();
        using O = decltype(f(C(), C()));
        if (scalar_first)
          map<C, O>([f, v](C a) { return f(v, a); }, x, y);
        else
          map<C, O>([f, v](C a) { return f(a, v); }, x, y);
      } else {
        fail("elementwise: integer input");
      }
    });
  });
}

void mul_backward(const Tensor& a, const Tensor& b, const Tensor& dy, Tensor& da, Tensor& db) {
  binary(BinaryOp::mul, dy, b, da);
  binary(BinaryOp::mul, dy, a, db);
}

void addcmul(const Tensor& a, const Tensor& b, const Tensor& c, Tensor& y) {
  dispatch_compute(y.dtype(),
                   [&]<class C>(Type<C>) { map<C, C, C>([](C p, C q, C r) { return p + q * r; }, a, b, c, y); });
}

void sum_product(const Tensor& a, const Tensor& b, Tensor& y) {
  Tensor product = empty(a.shape(), promote(a.dtype(), b.dtype()), a.device());
  binary(BinaryOp::mul, a, b, product);
  reduce(ReduceOp::sum, product, y);
}

void where(const Tensor& condition, const Tensor& a, const Tensor& b, Tensor& y) {
  dispatch_compute(y.dtype(), [&]<class C>(Type<C>) {
    map<bool, C, C>([](bool c, C p, C q) { return c ? p : q; }, condition, a, b, y);
  });
}

}  // namespace weft::cpu
