// Elementwise operations: the walk (walk.cuh) with a function that knows its operation at run time. All threads take
// the same branch, once for all their elements, so it costs nothing beside the memory that is moved; kernels are
// compiled once a kind of operation and storage type.
#include <weft/ops/elementwise_fn.h>
#include <weft/cuda/walk.cuh>

namespace weft::cuda {

namespace {

template <class F, class... G>
inline constexpr bool kOneOf = (std::is_same_v<F, G> || ...);

/// The operations of models' inner loops get straight code for each of a thread's elements; the others one copy of
/// their code, or this file would take minutes to compile.
template <class F, class C>
inline constexpr bool kUnrolled = std::is_same_v<C, float>&&
    kOneOf<F, fn::Neg, fn::Abs, fn::Square, fn::Sqrt, fn::Rsqrt, fn::Exp, fn::Log, fn::Tanh, fn::Sigmoid, fn::Relu,
           fn::Gelu, fn::GeluTanh, fn::Silu, fn::Add, fn::Sub, fn::Mul, fn::Div, fn::Maximum, fn::Minimum, fn::Eq,
           fn::Gt, fn::Ge, fn::Lt, fn::Le, fn::GeluGrad, fn::GeluTanhGrad, fn::SiluGrad, fn::ReluGrad>;

template <class C, int n>
__device__ void rotate(C (&x)[n]) {
  const C first = x[0];
#pragma unroll
  for (int i = 0; i + 1 < n; ++i) x[i] = x[i + 1];
  x[n - 1] = first;
}

/// y[i] = f(x[i]...) for all i.
template <class F, class C, int n, class... X>
__device__ void map(F f, C (&y)[n], X (&... x)[n]) {
  if constexpr (!F::kIntegers && std::is_integral_v<C>) {
    // ops/elementwise.cpp does not let it come to this
  } else if constexpr (kUnrolled<F, C>) {
#pragma unroll
    for (int i = 0; i < n; ++i) y[i] = static_cast<C>(f(x[i]...));
  } else {
    // An index that is known at run time only would put the arrays into memory: the values move past the code instead.
#pragma unroll 1
    for (int i = 0; i < n; ++i) {
      y[0] = static_cast<C>(f(x[0]...));
      rotate(y);
      (rotate(x), ...);
    }
  }
}

struct Unary {
  UnaryOp op;
  template <class C, int n>
  __device__ void operator()(C (&y)[n], C (&x)[n]) const {
    visit(op, [&](auto f) { map(f, y, x); });
  }
};
struct Binary {
  BinaryOp op;
  template <class C, int n>
  __device__ void operator()(C (&y)[n], C (&a)[n], C (&b)[n]) const {
    visit(op, [&](auto f) { map(f, y, a, b); });
  }
};
template <class C>
struct BinaryScalar {
  BinaryOp op;
  C scalar;
  bool scalar_first;
  template <int n>
  __device__ void operator()(C (&y)[n], C (&x)[n]) const {
    C s[n];
#pragma unroll
    for (int i = 0; i < n; ++i) s[i] = scalar;
    if (scalar_first) {
#pragma unroll
      for (int i = 0; i < n; ++i) s[i] = x[i], x[i] = scalar;
    }
    visit(op, [&](auto f) { map(f, y, x, s); });
  }
};
struct Where {
  template <class C, int n>
  __device__ void operator()(C (&y)[n], C (&condition)[n], C (&a)[n], C (&b)[n]) const {
#pragma unroll
    for (int i = 0; i < n; ++i) y[i] = condition[i] != C(0) ? a[i] : b[i];
  }
};

struct AddProduct {
  template <class C, int n>
  __device__ void operator()(C (&y)[n], C (&a)[n], C (&b)[n], C (&c)[n]) const {
#pragma unroll
    for (int i = 0; i < n; ++i) y[i] = a[i] + b[i] * c[i];
  }
};
struct MulBackward {
  template <class C, int n>
  __device__ void operator()(C (&da)[n], C (&db)[n], C (&a)[n], C (&b)[n], C (&dy)[n]) const {
#pragma unroll
    for (int i = 0; i < n; ++i) da[i] = dy[i] * b[i], db[i] = dy[i] * a[i];
  }
};

/// f(Type<C>{}, Type<S>{}) for operands of these dtypes that are computed with as `compute`.
template <class F>
void dispatch(DType compute, std::initializer_list<DType> dtypes, F&& f) {
  if (compute == float64) return f(Type<double>{}, Type<Any>{});
  if (!is_floating(compute)) return f(Type<int64_t>{}, Type<Any>{});
  dispatch_storage(dtypes, [&]<class S>(Type<S> s) { f(Type<float>{}, s); });
}

}  // namespace

void unary(UnaryOp op, const Tensor& x, Tensor& y) {
  DeviceScope scope(x);
  const Layout<2> l(y.shape(), {&y, &x});
  dispatch(x.dtype(), {y.dtype(), x.dtype()}, [&]<class C, class S>(Type<C>, Type<S>) {
    walk<C, kPackOf<S>, kPacks<S>>("elementwise", l, Stored<S>(), Stored<S>(), Unary{op});
  });
}

void binary(BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y) {
  DeviceScope scope(y);
  const Layout<3> l(y.shape(), {&y, &a, &b});
  dispatch(promote(a.dtype(), b.dtype()), {y.dtype(), a.dtype(), b.dtype()}, [&]<class C, class S>(Type<C>, Type<S>) {
    walk<C, kPackOf<S>, kPacks<S>>("elementwise", l, Stored<S>(), Stored<S, S>(), Binary{op});
  });
}

void binary_scalar(BinaryOp op, const Tensor& x, Scalar scalar, bool scalar_first, DType compute, Tensor& y) {
  DeviceScope scope(x);
  const Layout<2> l(y.shape(), {&y, &x});
  dispatch(compute, {y.dtype(), x.dtype()}, [&]<class C, class S>(Type<C>, Type<S>) {
    walk<C, kPackOf<S>, kPacks<S>>("elementwise", l, Stored<S>(), Stored<S>(),
                                   BinaryScalar<C>{op, scalar.to<C>(), scalar_first});
  });
}

void mul_backward(const Tensor& a, const Tensor& b, const Tensor& dy, Tensor& da, Tensor& db) {
  DeviceScope scope(dy);
  const Layout<5> l(dy.shape(), {&da, &db, &a, &b, &dy});
  const DType compute = promote(promote(a.dtype(), b.dtype()), dy.dtype());
  dispatch(compute, {da.dtype(), db.dtype(), dy.dtype()}, [&]<class C, class S>(Type<C>, Type<S>) {
    if constexpr (std::is_floating_point_v<C>)
      walk<C, kPackOf<S>, 1>("mul", l, Stored<S, S>(), Stored<S, S, S>(), MulBackward());
  });
}

void addcmul(const Tensor& a, const Tensor& b, const Tensor& c, Tensor& y) {
  DeviceScope scope(y);
  const Layout<4> l(y.shape(), {&y, &a, &b, &c});
  dispatch(y.dtype(), {y.dtype(), a.dtype(), b.dtype(), c.dtype()}, [&]<class C, class S>(Type<C>, Type<S>) {
    if constexpr (std::is_floating_point_v<C>)
      walk<C, kPackOf<S>, kPacks<S>>("addcmul", l, Stored<S>(), Stored<S, S, S>(), AddProduct());
  });
}

void where(const Tensor& condition, const Tensor& a, const Tensor& b, Tensor& y) {
  DeviceScope scope(y);
  const Layout<4> l(y.shape(), {&y, &condition, &a, &b});
  dispatch(y.dtype(), {y.dtype(), a.dtype(), b.dtype()}, [&]<class C, class S>(Type<C>, Type<S>) {
    using Condition = std::conditional_t<std::is_same_v<S, Any>, Any, bool>;
    walk<C, kPackOf<S>, kPacks<S>>("where", l, Stored<S>(), Stored<Condition, S, S>(), Where());
  });
}

}  // namespace weft::cuda
