#include <weft/cuda/block.cuh>

#include <cmath>
#include <limits>

namespace weft::cuda {

namespace {

// Class weights: 1 where there are none.
struct Weights {
  Data data;
  int64_t stride;
  template <class C>
  __device__ C at(int64_t i) const {
    return data.data ? data.load<C>(i * stride) : C(1);
  }
};

Weights weights(const Tensor& w) { return {data_of(w), w.defined() ? w.strides()[0] : 0}; }

// The error of the first target out of range; the kernels only look.
void check_targets(const Tensor& target, int64_t ignore_index, int64_t n) {
  for (int64_t t : target.to_vector<int64_t>())
    check(t == ignore_index || (t >= 0 && t < n), "cross_entropy: target ", t, " is out of range for ", n, " classes");
}

__global__ void range_kernel(const int64_t* target, int64_t rows, int64_t ignore_index, int64_t n, int* bad) {
  WEFT_GRID_LOOP(r, rows) {
    if (target[r] != ignore_index && (target[r] < 0 || target[r] >= n)) *bad = 1;
  }
}

template <class C>
__global__ void cross_entropy_kernel(Data logits, const int64_t* target, Weights w, int64_t ignore_index, C on, C all,
                                     C* loss, C* row_weight, C* lse, int64_t rows, int64_t n) {
  __shared__ C part[kThreads];
  WEFT_ROW_LOOP(r, rows) {
    const int64_t t = target[r];
    if (t == ignore_index) {
      if (threadIdx.x == 0) loss[r] = row_weight[r] = lse[r] = C(0);
      continue;
    }
    C top = minus_infinity<C>(), total = 0, spread = 0;
    WEFT_THREAD_LOOP(i, n) {
      const C v = logits.load<C>(r * n + i);
      top = v > top ? v : top;
    }
    top = block_max(top, part);
    WEFT_THREAD_LOOP(i, n) total += ::exp(logits.load<C>(r * n + i) - top);
    total = block_sum(total, part);
    const C sum = top == minus_infinity<C>() ? top : top + ::log(total);
    if (all > C(0)) {
      WEFT_THREAD_LOOP(i, n) spread += w.at<C>(i) * (sum - logits.load<C>(r * n + i));
      spread = block_sum(spread, part);
    }
    if (threadIdx.x == 0) {
      const C hit = w.at<C>(t);
      loss[r] = sum == minus_infinity<C>() ? std::numeric_limits<C>::infinity()
                                           : on * hit * (sum - logits.load<C>(r * n + t)) + all * spread;
      row_weight[r] = hit;
      lse[r] = sum;
    }
  }
}

template <class C>
__global__ void cross_entropy_backward_kernel(Data logits, const int64_t* target, Weights w, int64_t ignore_index, C on,
                                              C all, const C* lse, const C* scale, int64_t scale_step, Data dlogits,
                                              int64_t rows, int64_t n) {
  __shared__ C part[kThreads];
  C spread = 0;
  if (all > C(0)) {
    WEFT_THREAD_LOOP(i, n) spread += all * w.at<C>(i);
    spread = block_sum(spread, part);
  }
  WEFT_ROW_LOOP(r, rows) {
    const int64_t t = target[r];
    const C sum = lse[r];
    const bool none = t == ignore_index || sum == minus_infinity<C>();
    const C g = none ? C(0) : scale[r * scale_step], hit = none ? C(0) : on * w.at<C>(t), total = g * (hit + spread);
    WEFT_THREAD_LOOP(i, n) {
      C d = 0;
      if (!none) d = total * ::exp(logits.load<C>(r * n + i) - sum) - g * all * w.at<C>(i) - (i == t ? g * hit : C(0));
      dlogits.store(r * n + i, d);
    }
  }
}

}  // namespace

void cross_entropy(const Tensor& logits, const Tensor& target, const Tensor& weight, int64_t ignore_index,
                   double smoothing, Tensor& loss, Tensor& row_weight, Tensor& lse) {
  DeviceScope scope(logits);
  const int64_t n = logits.size(-1), rows = target.numel();
  Tensor bad = empty({}, int32, logits.device());
  check_cuda(cudaMemsetAsync(bad.raw_data(), 0, sizeof(int), stream()), "cross_entropy");
  launch("cross_entropy", rows, range_kernel, target.data<int64_t>(), rows, ignore_index, n, bad.data<int32_t>());
  if (bad.item<int64_t>() != 0) check_targets(target, ignore_index, n);
  dispatch_float(logits.dtype(), [&]<class C>(Type<C>) {
    launch_rows("cross_entropy", rows, cross_entropy_kernel<C>, data_of(logits), target.data<int64_t>(),
                weights(weight), ignore_index, C(1 - smoothing), C(smoothing / static_cast<double>(n)), loss.data<C>(),
                row_weight.data<C>(), lse.data<C>(), rows, n);
  });
}

void cross_entropy_backward(const Tensor& logits, const Tensor& target, const Tensor& weight, int64_t ignore_index,
                            double smoothing, const Tensor& lse, const Tensor& scale, Tensor& dlogits) {
  DeviceScope scope(logits);
  const int64_t n = logits.size(-1), rows = target.numel();
  dispatch_float(logits.dtype(), [&]<class C>(Type<C>) {
    launch_rows("cross_entropy", rows, cross_entropy_backward_kernel<C>, data_of(logits), target.data<int64_t>(),
                weights(weight), ignore_index, C(1 - smoothing), C(smoothing / static_cast<double>(n)), lse.data<C>(),
                scale.data<C>(), int64_t{scale.numel() == 1 ? 0 : 1}, data_of(dlogits), rows, n);
  });
}

}  // namespace weft::cuda
