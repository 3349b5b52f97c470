// The elementwise operations as functions of numbers, shared by the CPU and CUDA kernels. T is the compute type: float,
// double or int64_t (where Integers says so). Float maths goes through namespace num, which picks the fast form.
#pragma once

#include <weft/tensor/dtype.h>
#ifndef __CUDA_ARCH__
#include <weft/cpu/simd_math.h>
#endif

#include <cmath>

namespace weft {

enum class UnaryOp : uint8_t {
  neg,
  abs,
  sign,
  square,
  reciprocal,
  sqrt,
  rsqrt,
  exp,
  exp2,
  expm1,
  log,
  log2,
  log10,
  log1p,
  sin,
  cos,
  tan,
  asin,
  acos,
  atan,
  sinh,
  cosh,
  tanh,
  asinh,
  acosh,
  atanh,
  erf,
  erfc,
  lgamma,
  sigmoid,
  softplus,
  log_sigmoid,
  relu,
  gelu,
  gelu_tanh,
  silu,
  mish,
  floor,
  ceil,
  round,
  trunc,
  isnan,
  isinf,
  isfinite,
  logical_not
};

enum class BinaryOp : uint8_t {
  add,
  sub,
  mul,
  div,
  pow,
  maximum,
  minimum,
  fmod,
  remainder,
  floor_divide,
  atan2,
  eq,
  ne,
  lt,
  le,
  gt,
  ge,
  logical_and,
  logical_or,
  logical_xor,
  // gradients of the activations: f(x, dy) = dy * activation'(x)
  gelu_grad,
  gelu_tanh_grad,
  silu_grad,
  mish_grad,
  relu_grad
};

namespace num {
#ifdef __CUDA_ARCH__
template <class T>
__device__ T exp(T x) {
  return ::exp(x);
}
template <class T>
__device__ T log(T x) {
  return ::log(x);
}
template <class T>
__device__ T tanh(T x) {
  return ::tanh(x);
}
template <class T>
__device__ T erf(T x) {
  return ::erf(x);
}
template <class T>
__device__ T log1p(T x) {
  return ::log1p(x);
}
template <class T>
__device__ T expm1(T x) {
  return ::expm1(x);
}
#else
inline float exp(float x) { return cpu::vexp(x); }
inline float log(float x) { return cpu::vlog(x); }
inline float tanh(float x) { return cpu::vtanh(x); }
inline float erf(float x) { return cpu::verf(x); }
inline double exp(double x) { return std::exp(x); }
inline double log(double x) { return std::log(x); }
inline double tanh(double x) { return std::tanh(x); }
inline double erf(double x) { return std::erf(x); }
inline float log1p(float x) { return cpu::vlog1p(x); }
inline float expm1(float x) { return cpu::vexpm1(x); }
inline double log1p(double x) { return std::log1p(x); }
inline double expm1(double x) { return std::expm1(x); }
#endif
template <class T>
WEFT_HD T sigmoid(T x) {
  return T(1) / (T(1) + exp(-x));
}
template <class T>
WEFT_HD T softplus(T x) {
  return (x > 0 ? x : T(0)) + log1p(exp(-(x < 0 ? -x : x)));
}
}  // namespace num

namespace fn {

struct FloatOnly {
  static constexpr bool kIntegers = false;
};
struct Numbers {
  static constexpr bool kIntegers = true;
};

// Integers wrap around, also where C++ leaves signed overflow undefined.
template <class T>
struct Wrapping {
  using type = T;
};
template <>
struct Wrapping<int64_t> {
  using type = uint64_t;
};
template <class T>
using wrapping = typename Wrapping<T>::type;

// clang-format off
struct Neg : Numbers { template <class T> WEFT_HD T operator()(T x) const { if constexpr (std::is_integral_v<T>) return static_cast<T>(wrapping<T>(0) - wrapping<T>(x)); else return -x; } };
struct Abs : Numbers { template <class T> WEFT_HD T operator()(T x) const { if constexpr (std::is_integral_v<T>) return x < 0 ? Neg{}(x) : x; else return std::abs(x); } };
struct Sign : Numbers { template <class T> WEFT_HD T operator()(T x) const { return x > T(0) ? T(1) : x < T(0) ? T(-1) : x; } };
struct Square : Numbers { template <class T> WEFT_HD T operator()(T x) const { return static_cast<T>(wrapping<T>(x) * wrapping<T>(x)); } };
struct Reciprocal : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return T(1) / x; } };
struct Sqrt : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::sqrt(x); } };
struct Rsqrt : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return T(1) / std::sqrt(x); } };
struct Exp : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return num::exp(x); } };
struct Exp2 : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::exp2(x); } };
struct Expm1 : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return num::expm1(x); } };
struct Log : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return num::log(x); } };
struct Log2 : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::log2(x); } };
struct Log10 : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::log10(x); } };
struct Log1p : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return num::log1p(x); } };
struct Sin : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::sin(x); } };
struct Cos : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::cos(x); } };
struct Tan : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::tan(x); } };
struct Asin : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::asin(x); } };
struct Acos : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::acos(x); } };
struct Atan : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::atan(x); } };
struct Sinh : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::sinh(x); } };
struct Cosh : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::cosh(x); } };
struct Tanh : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return num::tanh(x); } };
struct Asinh : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::asinh(x); } };
struct Acosh : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::acosh(x); } };
struct Atanh : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::atanh(x); } };
struct Erf : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return num::erf(x); } };
struct Erfc : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::erfc(x); } };
struct Lgamma : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::lgamma(x); } };
struct Sigmoid : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return num::sigmoid(x); } };
struct Softplus : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return num::softplus(x); } };
struct LogSigmoid : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return -num::softplus(-x); } };
struct Relu : Numbers { template <class T> WEFT_HD T operator()(T x) const { return x < T(0) ? T(0) : x; } };
struct Gelu : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return T(0.5) * x * (T(1) + num::erf(x * T(0.70710678118654752440))); } };
struct GeluTanh : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return T(0.5) * x * (T(1) + num::tanh(T(0.79788456080286535588) * (x + T(0.044715) * x * x * x))); } };
struct Silu : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return x * num::sigmoid(x); } };
struct Mish : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return x * num::tanh(num::softplus(x)); } };
struct Floor : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::floor(x); } };
struct Ceil : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::ceil(x); } };
struct Round : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::nearbyint(x); } };  // half to even
struct Trunc : FloatOnly { template <class T> WEFT_HD T operator()(T x) const { return std::trunc(x); } };
struct IsNan : FloatOnly { template <class T> WEFT_HD bool operator()(T x) const { return x != x; } };
struct IsInf : FloatOnly { template <class T> WEFT_HD bool operator()(T x) const { return x - x != T(0) && x == x; } };
struct IsFinite : FloatOnly { template <class T> WEFT_HD bool operator()(T x) const { return x - x == T(0); } };
struct LogicalNot : Numbers { template <class T> WEFT_HD bool operator()(T x) const { return x == T(0); } };

struct Add : Numbers { template <class T> WEFT_HD T operator()(T a, T b) const { return static_cast<T>(wrapping<T>(a) + wrapping<T>(b)); } };
struct Sub : Numbers { template <class T> WEFT_HD T operator()(T a, T b) const { return static_cast<T>(wrapping<T>(a) - wrapping<T>(b)); } };
struct Mul : Numbers { template <class T> WEFT_HD T operator()(T a, T b) const { return static_cast<T>(wrapping<T>(a) * wrapping<T>(b)); } };
struct Div : FloatOnly { template <class T> WEFT_HD T operator()(T a, T b) const { return a / b; } };
struct Pow : Numbers {
  template <class T> WEFT_HD T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      if (b < 0) return a == 1 ? 1 : a == -1 ? (b % 2 != 0 ? -1 : 1) : 0;  // a fraction, towards 0
      wrapping<T> r = 1, x = wrapping<T>(a);
      for (; b > 0; b >>= 1, x *= x) { if (b & 1) r *= x; }
      return static_cast<T>(r);
    } else {
      return std::pow(a, b);
    }
  }
};
// NaN wins, as in PyTorch.
struct Maximum : Numbers { template <class T> WEFT_HD T operator()(T a, T b) const { return a > b || a != a ? a : b; } };
struct Minimum : Numbers { template <class T> WEFT_HD T operator()(T a, T b) const { return a < b || a != a ? a : b; } };
// A division of integers by 0 gives 0; by -1 it is kept from the processor, which traps on the smallest integer.
struct Fmod : Numbers {
  template <class T> WEFT_HD T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) return b == 0 || b == -1 ? 0 : a % b;
    else return std::fmod(a, b);
  }
};
struct Remainder : Numbers {  // the sign of the divisor, as Python's %
  template <class T> WEFT_HD T operator()(T a, T b) const { const T r = Fmod{}(a, b); return r != T(0) && (r < T(0)) != (b < T(0)) ? r + b : r; }
};
// As Python's //: a = b·(a // b) + a % b holds to rounding, so 1 // 0.1 is 9.
struct FloorDivide : Numbers {
  template <class T> WEFT_HD T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      if (b == 0) return 0;
      if (b == -1) return Neg{}(a);
      const T q = a / b;
      return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
    } else {
      if (b == T(0)) return a / b;
      const T r = std::fmod(a, b);
      T q = (a - r) / b;  // a whole number, but for its own rounding
      if (r != T(0) && (r < T(0)) != (b < T(0))) q -= T(1);
      if (q == T(0)) return a / b < T(0) ? T(-0.0) : T(0);
      const T whole = std::floor(q);
      return q - whole > T(0.5) ? whole + T(1) : whole;
    }
  }
};
struct Atan2 : FloatOnly { template <class T> WEFT_HD T operator()(T a, T b) const { return std::atan2(a, b); } };
struct Eq : Numbers { template <class T> WEFT_HD bool operator()(T a, T b) const { return a == b; } };
struct Ne : Numbers { template <class T> WEFT_HD bool operator()(T a, T b) const { return a != b; } };
struct Lt : Numbers { template <class T> WEFT_HD bool operator()(T a, T b) const { return a < b; } };
struct Le : Numbers { template <class T> WEFT_HD bool operator()(T a, T b) const { return a <= b; } };
struct Gt : Numbers { template <class T> WEFT_HD bool operator()(T a, T b) const { return a > b; } };
struct Ge : Numbers { template <class T> WEFT_HD bool operator()(T a, T b) const { return a >= b; } };
struct LogicalAnd : Numbers { template <class T> WEFT_HD bool operator()(T a, T b) const { return (a != T(0)) & (b != T(0)); } };
struct LogicalOr : Numbers { template <class T> WEFT_HD bool operator()(T a, T b) const { return (a != T(0)) | (b != T(0)); } };
struct LogicalXor : Numbers { template <class T> WEFT_HD bool operator()(T a, T b) const { return (a != T(0)) != (b != T(0)); } };
struct GeluGrad : FloatOnly {
  template <class T> WEFT_HD T operator()(T x, T dy) const {
    const T cdf = T(0.5) * (T(1) + num::erf(x * T(0.70710678118654752440)));
    return dy * (cdf + x * T(0.39894228040143267794) * num::exp(T(-0.5) * x * x));
  }
};
struct GeluTanhGrad : FloatOnly {
  template <class T> WEFT_HD T operator()(T x, T dy) const {
    const T c = T(0.79788456080286535588), t = num::tanh(c * (x + T(0.044715) * x * x * x));
    return dy * (T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * c * (T(1) + T(3 * 0.044715) * x * x));
  }
};
struct SiluGrad : FloatOnly { template <class T> WEFT_HD T operator()(T x, T dy) const { const T s = num::sigmoid(x); return dy * s * (T(1) + x * (T(1) - s)); } };
struct MishGrad : FloatOnly { template <class T> WEFT_HD T operator()(T x, T dy) const { const T t = num::tanh(num::softplus(x)); return dy * (t + x * (T(1) - t * t) * num::sigmoid(x)); } };
struct ReluGrad : FloatOnly { template <class T> WEFT_HD T operator()(T x, T dy) const { return x > T(0) ? dy : T(0); } };
// clang-format on

}  // namespace fn

/// Calls f with the function object of op.
template <class F>
WEFT_HD void visit(UnaryOp op, F&& f) {
  switch (op) {
    case UnaryOp::neg:
      return f(fn::Neg{});
    case UnaryOp::abs:
      return f(fn::Abs{});
    case UnaryOp::sign:
      return f(fn::Sign{});
    case UnaryOp::square:
      return f(fn::Square{});
    case UnaryOp::reciprocal:
      return f(fn::Reciprocal{});
    case UnaryOp::sqrt:
      return f(fn::Sqrt{});
    case UnaryOp::rsqrt:
      return f(fn::Rsqrt{});
    case UnaryOp::exp:
      return f(fn::Exp{});
    case UnaryOp::exp2:
      return f(fn::Exp2{});
    case UnaryOp::expm1:
      return f(fn::Expm1{});
    case UnaryOp::log:
      return f(fn::Log{});
    case UnaryOp::log2:
      return f(fn::Log2{});
    case UnaryOp::log10:
      return f(fn::Log10{});
    case UnaryOp::log1p:
      return f(fn::Log1p{});
    case UnaryOp::sin:
      return f(fn::Sin{});
    case UnaryOp::cos:
      return f(fn::Cos{});
    case UnaryOp::tan:
      return f(fn::Tan{});
    case UnaryOp::asin:
      return f(fn::Asin{});
    case UnaryOp::acos:
      return f(fn::Acos{});
    case UnaryOp::atan:
      return f(fn::Atan{});
    case UnaryOp::sinh:
      return f(fn::Sinh{});
    case UnaryOp::cosh:
      return f(fn::Cosh{});
    case UnaryOp::tanh:
      return f(fn::Tanh{});
    case UnaryOp::asinh:
      return f(fn::Asinh{});
    case UnaryOp::acosh:
      return f(fn::Acosh{});
    case UnaryOp::atanh:
      return f(fn::Atanh{});
    case UnaryOp::erf:
      return f(fn::Erf{});
    case UnaryOp::erfc:
      return f(fn::Erfc{});
    case UnaryOp::lgamma:
      return f(fn::Lgamma{});
    case UnaryOp::sigmoid:
      return f(fn::Sigmoid{});
    case UnaryOp::softplus:
      return f(fn::Softplus{});
    case UnaryOp::log_sigmoid:
      return f(fn::LogSigmoid{});
    case UnaryOp::relu:
      return f(fn::Relu{});
    case UnaryOp::gelu:
      return f(fn::Gelu{});
    case UnaryOp::gelu_tanh:
      return f(fn::GeluTanh{});
    case UnaryOp::silu:
      return f(fn::Silu{});
    case UnaryOp::mish:
      return f(fn::Mish{});
    case UnaryOp::floor:
      return f(fn::Floor{});
    case UnaryOp::ceil:
      return f(fn::Ceil{});
    case UnaryOp::round:
      return f(fn::Round{});
    case UnaryOp::trunc:
      return f(fn::Trunc{});
    case UnaryOp::isnan:
      return f(fn::IsNan{});
    case UnaryOp::isinf:
      return f(fn::IsInf{});
    case UnaryOp::isfinite:
      return f(fn::IsFinite{});
    case UnaryOp::logical_not:
      return f(fn::LogicalNot{});
  }
}

template <class F>
WEFT_HD void visit(BinaryOp op, F&& f) {
  switch (op) {
    case BinaryOp::add:
      return f(fn::Add{});
    case BinaryOp::sub:
      return f(fn::Sub{});
    case BinaryOp::mul:
      return f(fn::Mul{});
    case BinaryOp::div:
      return f(fn::Div{});
    case BinaryOp::pow:
      return f(fn::Pow{});
    case BinaryOp::maximum:
      return f(fn::Maximum{});
    case BinaryOp::minimum:
      return f(fn::Minimum{});
    case BinaryOp::fmod:
      return f(fn::Fmod{});
    case BinaryOp::remainder:
      return f(fn::Remainder{});
    case BinaryOp::floor_divide:
      return f(fn::FloorDivide{});
    case BinaryOp::atan2:
      return f(fn::Atan2{});
    case BinaryOp::eq:
      return f(fn::Eq{});
    case BinaryOp::ne:
      return f(fn::Ne{});
    case BinaryOp::lt:
      return f(fn::Lt{});
    case BinaryOp::le:
      return f(fn::Le{});
    case BinaryOp::gt:
      return f(fn::Gt{});
    case BinaryOp::ge:
      return f(fn::Ge{});
    case BinaryOp::logical_and:
      return f(fn::LogicalAnd{});
    case BinaryOp::logical_or:
      return f(fn::LogicalOr{});
    case BinaryOp::logical_xor:
      return f(fn::LogicalXor{});
    case BinaryOp::gelu_grad:
      return f(fn::GeluGrad{});
    case BinaryOp::gelu_tanh_grad:
      return f(fn::GeluTanhGrad{});
    case BinaryOp::silu_grad:
      return f(fn::SiluGrad{});
    case BinaryOp::mish_grad:
      return f(fn::MishGrad{});
    case BinaryOp::relu_grad:
      return f(fn::ReluGrad{});
  }
}

}  // namespace weft
