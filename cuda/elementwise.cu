// One kernel a kind of operation and compute type; which operation is a branch that all threads take alike.
#include <weft/ops/elementwise_fn.h>
#include <weft/cuda/common.cuh>

namespace weft::cuda {

namespace {

template <class C>
__global__ void unary_kernel(UnaryOp op, Space<2> s) {
  WEFT_GRID_LOOP(i, s.numel) {
    int64_t at[2];
    s.locate(i, at);
    const C x = s.operand[1].data.load<C>(at[1]);
    visit(op, [&]<class F>(F f) {
      if constexpr (F::kIntegers || !std::is_integral_v<C>) s.operand[0].data.store(at[0], static_cast<C>(f(x)));
    });
  }
}

template <class C>
__global__ void binary_kernel(BinaryOp op, Space<3> s) {
  WEFT_GRID_LOOP(i, s.numel) {
    int64_t at[3];
    s.locate(i, at);
    const C a = s.operand[1].data.load<C>(at[1]), b = s.operand[2].data.load<C>(at[2]);
    visit(op, [&]<class F>(F f) {
      if constexpr (F::kIntegers || !std::is_integral_v<C>) s.operand[0].data.store(at[0], static_cast<C>(f(a, b)));
    });
  }
}

template <class C>
__global__ void binary_scalar_kernel(BinaryOp op, Space<2> s, C scalar, bool scalar_first) {
  WEFT_GRID_LOOP(i, s.numel) {
    int64_t at[2];
    s.locate(i, at);
    const C x = s.operand[1].data.load<C>(at[1]), a = scalar_first ? scalar : x, b = scalar_first ? x : scalar;
    visit(op, [&]<class F>(F f) {
      if constexpr (F::kIntegers || !std::is_integral_v<C>) s.operand[0].data.store(at[0], static_cast<C>(f(a, b)));
    });
  }
}

template <class C>
__global__ void where_kernel(Space<4> s) {
  WEFT_GRID_LOOP(i, s.numel) {
    int64_t at[4];
    s.locate(i, at);
    s.operand[0].data.store(at[0], s.operand[1].data.load<bool>(at[1]) ? s.operand[2].data.load<C>(at[2])
                                                                       : s.operand[3].data.load<C>(at[3]));
  }
}

}  // namespace

void unary(UnaryOp op, const Tensor& x, Tensor& y) {
  DeviceScope scope(x);
  const Space<2> s(y.shape(), {&y, &x});
  dispatch_compute(x.dtype(), [&]<class C>(Type<C>) { launch("elementwise", s.numel, unary_kernel<C>, op, s); });
}

void binary(BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y) {
  DeviceScope scope(y);
  const Space<3> s(y.shape(), {&y, &a, &b});
  dispatch_compute(promote(a.dtype(), b.dtype()),
                   [&]<class C>(Type<C>) { launch("elementwise", s.numel, binary_kernel<C>, op, s); });
}

void binary_scalar(BinaryOp op, const Tensor& x, Scalar scalar, bool scalar_first, DType compute, Tensor& y) {
  DeviceScope scope(x);
  const Space<2> s(y.shape(), {&y, &x});
  dispatch_compute(compute, [&]<class C>(Type<C>) {
    launch("elementwise", s.numel, binary_scalar_kernel<C>, op, s, scalar.to<C>(), scalar_first);
  });
}

void where(const Tensor& condition, const Tensor& a, const Tensor& b, Tensor& y) {
  DeviceScope scope(y);
  const Space<4> s(y.shape(), {&y, &condition, &a, &b});
  dispatch_compute(y.dtype(), [&]<class C>(Type<C>) { launch("where", s.numel, where_kernel<C>, s); });
}

}  // namespace weft::cuda
