// A thread a lane, walking along dim: exact in the order of the CPU.
#include <weft/ops/scan_op.h>
#include <weft/cuda/common.cuh>

namespace weft::cuda {

namespace {

// The tensors without dim, which each thread walks itself.
template <int N>
struct Lanes {
  Space<N> space;
  int64_t step[N], length;
};

template <int N>
Lanes<N> lanes(const Tensor* const (&tensors)[N], int64_t dim) {
  Tensor views[N];
  const Tensor* pointers[N];
  Shape shape = tensors[0]->shape();
  const int64_t length = shape[dim];
  shape[dim] = 1;
  for (int k = 0; k < N; ++k) {
    views[k] = as_strided_raw(*tensors[k], shape, tensors[k]->strides(), tensors[k]->impl().offset);
    pointers[k] = &views[k];
  }
  auto make = [&]<size_t... I>(std::index_sequence<I...>) { return Space<N>(shape, {pointers[I]...}); };
  Lanes<N> out{make(std::make_index_sequence<N>{}), {}, length};
  for (int k = 0; k < N; ++k) out.step[k] = tensors[k]->strides()[dim];
  return out;
}

template <class C, class F>
__global__ void scan_kernel(Lanes<2> l, bool exclusive, bool reverse) {
  const F f;
  WEFT_GRID_LOOP(lane, l.space.numel) {
    int64_t at[2];
    l.space.locate(lane, at);
    C total = F::template start<C>();
    for (int64_t t = 0; t < l.length; ++t) {
      const int64_t i = reverse ? l.length - 1 - t : t;
      const C next = f(total, l.space.operand[1].data.template load<C>(at[1] + i * l.step[1]));
      l.space.operand[0].data.store(at[0] + i * l.step[0], exclusive ? total : next);
      total = next;
    }
  }
}

template <class C>
__global__ void scan_extreme_kernel(Lanes<2> l, bool largest) {
  WEFT_GRID_LOOP(lane, l.space.numel) {
    int64_t at[2], best = 0;
    l.space.locate(lane, at);
    for (int64_t t = 0; t < l.length; ++t) {
      const C v = l.space.operand[1].data.load<C>(at[1] + t * l.step[1]),
              b = l.space.operand[1].data.load<C>(at[1] + best * l.step[1]);
      if (!beats(largest, b, v)) best = t;  // equal: the later one
      l.space.operand[0].data.store(at[0] + t * l.step[0], best);
    }
  }
}

template <class C>
__global__ void linear_scan_kernel(Lanes<3> l, bool reverse) {
  WEFT_GRID_LOOP(lane, l.space.numel) {
    int64_t at[3];
    l.space.locate(lane, at);
    C state = 0;
    for (int64_t t = 0; t < l.length; ++t) {
      const int64_t i = reverse ? l.length - 1 - t : t;
      state = l.space.operand[1].data.load<C>(at[1] + i * l.step[1]) * state +
              l.space.operand[2].data.load<C>(at[2] + i * l.step[2]);
      l.space.operand[0].data.store(at[0] + i * l.step[0], state);
    }
  }
}

}  // namespace

void scan(ScanOp op, const Tensor& x, int64_t dim, bool exclusive, bool reverse, Tensor& y) {
  if (y.numel() == 0) return;
  DeviceScope scope(x);
  const Lanes<2> l = lanes<2>({&y, &x}, dim);
  visit(op, [&]<class F>(F) {
    dispatch_compute(
        x.dtype(), [&]<class C>(Type<C>) { launch("scan", l.space.numel, scan_kernel<C, F>, l, exclusive, reverse); });
  });
}

void scan_extreme(bool largest, const Tensor& x, int64_t dim, Tensor& indices) {
  if (x.numel() == 0) return;
  DeviceScope scope(x);
  const Lanes<2> l = lanes<2>({&indices, &x}, dim);
  dispatch_compute(x.dtype(),
                   [&]<class C>(Type<C>) { launch("scan", l.space.numel, scan_extreme_kernel<C>, l, largest); });
}

void linear_scan(const Tensor& a, const Tensor& b, int64_t dim, bool reverse, Tensor& y) {
  if (y.numel() == 0) return;
  DeviceScope scope(y);
  const Lanes<3> l = lanes<3>({&y, &a, &b}, dim);
  dispatch_compute(y.dtype(),
                   [&]<class C>(Type<C>) { launch("scan", l.space.numel, linear_scan_kernel<C>, l, reverse); });
}

}  // namespace weft::cuda
