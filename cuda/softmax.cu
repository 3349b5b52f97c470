// A row that fits into registers is read once and written once, each way. Of longer rows every thread keeps the largest
// entry so far and the sum of exponentials relative to it, so that two passes do; the second mostly meets the cache.
#include <weft/cuda/rows.cuh>

#include <cmath>

namespace weft::cuda {

namespace {

// Where the mask of each row begins, and how it moves along the row; no data: everything is there.
struct Mask {
  Space<1> rows;
  int64_t stride;

  __device__ const bool* row(int64_t r) const {
    const auto* mask = static_cast<const bool*>(rows.operand[0].data.data);
    if (!mask) return nullptr;
    int64_t at[1];
    rows.locate(r, at);
    return mask + at[0];
  }
};

// Of a row without any finite entry: NaN if nan is, else what is said of empty rows.
template <class C>
__device__ C empty_value(C nan, bool log) {
  return nan != nan ? nan : log ? minus_infinity<C>() : C(0);
}

// --- rows in registers -----------------------------------------------------------------------------------------------

template <class T, class S>
__global__ void __launch_bounds__(kThreads) softmax_kernel(const T* x, Mask mask, T* y, int64_t rows, int n, bool log) {
  __shared__ float part[kThreads / 32];
  constexpr float none = minus_infinity<float>();
  for (int64_t row = S::first(); row < rows; row += S::step()) {
    // Load.
    float v[S::E];
    load_row<S>(x + row * n, n, v, none);
    if (const bool* present = mask.row(row)) {
      each_pack<S>(n, [&](int k, int i) {
#pragma unroll
        for (int j = 0; j < S::V; ++j)
          if (!present[(i + j) * mask.stride]) v[k * S::V + j] = none;
      });
    }

    // The largest entry; then exponentials (or their logarithms) and the sum of exponentials.
    float top = none, nan = 0, total = 0;
#pragma unroll
    for (int e = 0; e < S::E; ++e) {
      top = v[e] > top ? v[e] : top;
      nan += v[e] != v[e] ? v[e] : 0.0f;
    }
    top = S::max(top, part);
    if (top == none) {
      const float fill = empty_value(S::sum(nan, part), log);
#pragma unroll
      for (int e = 0; e < S::E; ++e) v[e] = fill;
    } else {
#pragma unroll
      for (int e = 0; e < S::E; ++e) {
        const float p = ::expf(v[e] - top);
        total += p;
        v[e] = log ? v[e] - top : p;
      }
      total = S::sum(total, part);
      const float shift = ::logf(total), scale = 1 / total;
#pragma unroll
      for (int e = 0; e < S::E; ++e) v[e] = log ? v[e] - shift : v[e] * scale;
    }
    store_row<S>(y + row * n, n, v);
  }
}

template <class T, class S>
__global__ void __launch_bounds__(kThreads)
    softmax_backward_kernel(const T* y, const T* dy, T* dx, int64_t rows, int n, bool log) {
  __shared__ float part[kThreads / 32];
  constexpr float none = minus_infinity<float>();
  for (int64_t row = S::first(); row < rows; row += S::step()) {
    float p[S::E], g[S::E];
    load_row<S>(y + row * n, n, p, log ? none : 0);
    load_row<S>(dy + row * n, n, g);
    float total = 0;
#pragma unroll
    for (int e = 0; e < S::E; ++e) total += !log ? p[e] * g[e] : p[e] == none ? 0.0f : g[e];
    total = S::sum(total, part);
#pragma unroll
    for (int e = 0; e < S::E; ++e)
      g[e] = !log ? p[e] * (g[e] - total) : p[e] == none ? 0.0f : g[e] - ::expf(p[e]) * total;
    store_row<S>(dx + row * n, n, g);
  }
}

// --- rows of any length ----------------------------------------------------------------------------------------------

template <class C>
__global__ void softmax_passes_kernel(Data x, Mask mask, Data y, int64_t rows, int64_t n, bool log) {
  __shared__ C part[kThreads / 32];
  WEFT_ROW_LOOP(r, rows) {
    const bool* present = mask.row(r);
    const auto at = [&](int64_t i) {
      return present && !present[i * mask.stride] ? minus_infinity<C>() : x.load<C>(r * n + i);
    };
    // Of this thread's entries: the largest, and Σ exp(v - largest).
    C mine = minus_infinity<C>(), sum = 0, nan = 0;
    WEFT_THREAD_LOOP(i, n) {
      const C v = at(i);
      nan += v != v || v == -minus_infinity<C>() ? v - v : C(0);
      if (v > mine) {
        sum = sum * ::exp(mine - v) + C(1);
        mine = v;
      } else if (v > minus_infinity<C>()) {
        sum += ::exp(v - mine);
      }
    }
    const C top = block_max(mine, part);
    nan = block_sum(nan, part);
    if (top == minus_infinity<C>() || nan != nan) {
      const C fill = empty_value(nan, log);
      WEFT_THREAD_LOOP(i, n) y.store(r * n + i, fill);
      continue;
    }
    const C total = block_sum(mine == minus_infinity<C>() ? C(0) : sum * ::exp(mine - top), part);
    const C shift = ::log(total), scale = C(1) / total;
    WEFT_THREAD_LOOP(i, n) y.store(r * n + i, log ? at(i) - top - shift : ::exp(at(i) - top) * scale);
  }
}

template <class C>
__global__ void softmax_backward_passes_kernel(Data y, Data dy, Data dx, int64_t rows, int64_t n, bool log) {
  __shared__ C part[kThreads / 32];
  constexpr C none = minus_infinity<C>();
  WEFT_ROW_LOOP(r, rows) {
    C total = 0;
    WEFT_THREAD_LOOP(i, n) {
      const C p = y.load<C>(r * n + i), g = dy.load<C>(r * n + i);
      total += !log ? p * g : p == none ? C(0) : g;
    }
    total = block_sum(total, part);
    WEFT_THREAD_LOOP(i, n) {
      const C p = y.load<C>(r * n + i), g = dy.load<C>(r * n + i);
      dx.store(r * n + i, !log ? p * (g - total) : p == none ? C(0) : g - ::exp(p) * total);
    }
  }
}

Mask mask_of(const Tensor& mask) {
  if (!mask.defined()) return {Space<1>(Shape{}, {&mask}), 0};
  const Shape& shape = mask.shape();
  const Tensor lead = as_strided_raw(mask, Shape(shape.begin(), shape.end() - 1),
                                     Shape(mask.strides().begin(), mask.strides().end() - 1), mask.impl().offset);
  return {Space<1>(lead.shape(), {&lead}), mask.strides().back()};
}

}  // namespace

void softmax(const Tensor& x, const Tensor& mask0, bool log, Tensor& y) {
  if (x.numel() == 0) return;
  DeviceScope scope(x);
  const int64_t n = x.size(-1), rows = x.numel() / n;
  const Mask mask = mask_of(mask0);
  const bool done = float_rows(x.dtype(), [&]<class T>(Type<T>) {
    return in_registers<T>(n, packs(x, n) && packs(y, n), [&]<class S>(S) {
      softmax_kernel<T, S><<<row_blocks<S>(rows, 132 * 32), kThreads, 0, stream()>>>(x.data<T>(), mask, y.data<T>(),
                                                                                     rows, static_cast<int>(n), log);
      check_cuda(cudaGetLastError(), "softmax");
    });
  });
  if (done) return;
  dispatch_float(x.dtype(), [&]<class C>(Type<C>) {
    launch_rows("softmax", rows, softmax_passes_kernel<C>, data_of(x), mask, data_of(y), rows, n, log);
  });
}

void softmax_backward(const Tensor& y, const Tensor& dy, bool log, Tensor& dx) {
  if (y.numel() == 0) return;
  DeviceScope scope(y);
  const int64_t n = y.size(-1), rows = y.numel() / n;
  const bool done = float_rows(y.dtype(), [&]<class T>(Type<T>) {
    return in_registers<T>(n, packs(y, n) && packs(dy, n) && packs(dx, n), [&]<class S>(S) {
      softmax_backward_kernel<T, S><<<row_blocks<S>(rows, 132 * 32), kThreads, 0, stream()>>>(
          y.data<T>(), dy.data<T>(), dx.data<T>(), rows, static_cast<int>(n), log);
      check_cuda(cudaGetLastError(), "softmax");
    });
  });
  if (done) return;
  dispatch_float(y.dtype(), [&]<class C>(Type<C>) {
    launch_rows("softmax", rows, softmax_backward_passes_kernel<C>, data_of(y), data_of(dy), data_of(dx), rows, n, log);
  });
}

}  // namespace weft::cuda
