// One block a result: its threads stride over the reduced elements, then combine in a fixed order.
#include <weft/ops/reduce_op.h>
#include <weft/cuda/common.cuh>

namespace weft::cuda {

namespace {

// kept: operand 0 is y, 1 is x at the first reduced element; reduced: operand 0 is x at the first kept element.
template <class C, class F>
__global__ void reduce_kernel(Space<2> kept, Space<1> reduced) {
  __shared__ C part[kThreads];
  const F f;
  for (int64_t row = blockIdx.x; row < kept.numel; row += gridDim.x) {
    int64_t at[2], in[1];
    kept.locate(row, at);
    C total = F::template start<C>();
    for (int64_t i = threadIdx.x; i < reduced.numel; i += kThreads) {
      reduced.locate(i, in);
      total = f(total, reduced.operand[0].data.load<C>(at[1] + in[0]));
    }
    part[threadIdx.x] = total;
    __syncthreads();
    for (int half = kThreads / 2; half > 0; half /= 2) {
      if (threadIdx.x < half) part[threadIdx.x] = f(part[threadIdx.x], part[threadIdx.x + half]);
      __syncthreads();
    }
    if (threadIdx.x == 0) kept.operand[0].data.store(at[0], part[0]);
    __syncthreads();
  }
}

}  // namespace

void reduce(ReduceOp op, const Tensor& x, Tensor& y) {
  if (y.numel() == 0) return;
  DeviceScope scope(x);
  Shape kept, kept_x, kept_y, gone, gone_x;
  for (int64_t d = 0; d < x.dim(); ++d) {
    const bool keep = y.shape()[d] == x.shape()[d];
    (keep ? kept : gone).push_back(x.shape()[d]);
    (keep ? kept_x : gone_x).push_back(x.strides()[d]);
    if (keep) kept_y.push_back(y.strides()[d]);
  }
  const Tensor rows_y = as_strided_raw(y, kept, kept_y, y.impl().offset),
               rows_x = as_strided_raw(x, kept, kept_x, x.impl().offset),
               columns = as_strided_raw(x, gone, gone_x, x.impl().offset);
  const Space<2> rows(kept, {&rows_y, &rows_x});
  const Space<1> reduced(gone, {&columns});
  visit(op, [&]<class F>(F) {
    dispatch_compute(x.dtype(), [&]<class C>(Type<C>) {
      launch("reduce", rows.numel * kThreads, reduce_kernel<C, F>, rows, reduced);
    });
  });
}

}  // namespace weft::cuda
