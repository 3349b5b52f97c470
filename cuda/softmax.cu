#include <weft/cuda/block.cuh>

#include <cmath>
#include <limits>

namespace weft::cuda {

namespace {

// A row's entries as seen through the mask.
template <class C>
struct MaskedRow {
  const Data& x;
  const bool* mask;
  int64_t base, stride;
  __device__ C operator()(int64_t i) const {
    return mask && !mask[i * stride] ? minus_infinity<C>() : x.load<C>(base + i);
  }
};

template <class C>
__global__ void softmax_kernel(Data x, Space<1> mask_rows, bool masked, int64_t mask_stride, Data y, int64_t rows,
                               int64_t n, bool log) {
  __shared__ C part[kThreads];
  WEFT_ROW_LOOP(r, rows) {
    const bool* mask = nullptr;
    if (masked) {
      int64_t at[1];
      mask_rows.locate(r, at);
      mask = static_cast<const bool*>(mask_rows.operand[0].data.data) + at[0];
    }
    const MaskedRow<C> row{x, mask, r * n, mask_stride};
    C top = minus_infinity<C>(), nan = 0;
    WEFT_THREAD_LOOP(i, n) {
      const C v = row(i);
      top = v > top ? v : top;
      nan += v != v ? v : C(0);
    }
    top = block_max(top, part);
    nan = block_sum(nan, part);
    if (top == minus_infinity<C>()) {
      const C fill = nan != nan ? nan : log ? minus_infinity<C>() : C(0);
      WEFT_THREAD_LOOP(i, n) y.store(r * n + i, fill);
      continue;
    }
    C total = 0;
    WEFT_THREAD_LOOP(i, n) total += ::exp(row(i) - top);
    total = block_sum(total, part);
    const C shift = ::log(total);
    WEFT_THREAD_LOOP(i, n) y.store(r * n + i, log ? row(i) - top - shift : ::exp(row(i) - top) / total);
  }
}

template <class C>
__global__ void softmax_backward_kernel(Data y, Data dy, Data dx, int64_t rows, int64_t n, bool log) {
  __shared__ C part[kThreads];
  WEFT_ROW_LOOP(r, rows) {
    C total = 0;
    WEFT_THREAD_LOOP(i, n) {
      const C p = y.load<C>(r * n + i), g = dy.load<C>(r * n + i);
      total += log ? (p == minus_infinity<C>() ? C(0) : g) : p * g;
    }
    total = block_sum(total, part);
    WEFT_THREAD_LOOP(i, n) {
      const C p = y.load<C>(r * n + i), g = dy.load<C>(r * n + i);
      dx.store(r * n + i, !log ? p * (g - total) : p == minus_infinity<C>() ? C(0) : g - ::exp(p) * total);
    }
  }
}

}  // namespace

void softmax(const Tensor& x, const Tensor& mask, bool log, Tensor& y) {
  if (x.numel() == 0) return;
  DeviceScope scope(x);
  const int64_t n = x.size(-1), rows = x.numel() / n;
  const Tensor lead = mask.defined()
                          ? as_strided_raw(mask, Shape(mask.shape().begin(), mask.shape().end() - 1),
                                           Shape(mask.strides().begin(), mask.strides().end() - 1), mask.impl().offset)
                          : x;
  const Space<1> mask_rows(mask.defined() ? lead.shape() : Shape{}, {&lead});
  dispatch_float(x.dtype(), [&]<class C>(Type<C>) {
    launch_rows("softmax", rows, softmax_kernel<C>, data_of(x), mask_rows, mask.defined(),
                mask.defined() ? mask.strides().back() : 0, data_of(y), rows, n, log);
  });
}

void softmax_backward(const Tensor& y, const Tensor& dy, bool log, Tensor& dx) {
  if (y.numel() == 0) return;
  DeviceScope scope(y);
  const int64_t n = y.size(-1), rows = y.numel() / n;
  dispatch_float(y.dtype(), [&]<class C>(Type<C>) {
    launch_rows("softmax", rows, softmax_backward_kernel<C>, data_of(y), data_of(dy), data_of(dx), rows, n, log);
  });
}

}  // namespace weft::cuda
