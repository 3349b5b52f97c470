// A row that fits into registers is read once and written once, each way. Of longer rows every thread keeps the largest
// entry so far and the sum of exponentials relative to it, so that two passes do; the second mostly meets the cache.
#include <weft/cuda/row_walk.cuh>

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

// A block of G threads a row.
template <class T, int V, int G>
__global__ void __launch_bounds__(G)
    softmax_passes_kernel(const T* x, Mask mask, T* y, int64_t rows, int64_t n, bool log) {
  using C = acc_t<T>;
  constexpr C none = minus_infinity<C>();
  __shared__ C part[32];
  const Team<G, C> team{part};
  WEFT_ROW_LOOP(r, rows) {
    const bool* present = mask.row(r);
    const auto value = [&](T raw, int64_t i) { return present && !present[i * mask.stride] ? none : widen(raw); };
    // The largest entry and the sum of exponentials.
    ExpSum<T> seen;
    C nan = 0;
    each_in_row<V, G>(x + r * n, n, team.thread(), [&]<int M>(int64_t, int64_t i, const RowPack<T, M>& raw) {
      C v[M];
#pragma unroll
      for (int j = 0; j < M; ++j) {
        v[j] = value(raw.v[j], i + j);
        nan += v[j] != v[j] || v[j] == -none ? v[j] - v[j] : C(0);
      }
      seen.add(v);
    });
    seen = seen.over(team);
    nan = team.sum(nan);
    const bool empty = seen.top == none || nan != nan;
    const C fill = empty_value(nan, log), shift = seen.top + ::log(seen.sum), scale = C(1) / seen.sum;
    // The result.
    each_in_row<V, G>(x + r * n, n, team.thread(), [&]<int M>(int64_t, int64_t i, const RowPack<T, M>& raw) {
      RowPack<T, M> out;
#pragma unroll
      for (int j = 0; j < M; ++j) {
        const C v = value(raw.v[j], i + j);
        out.v[j] = narrow<T>(empty ? fill : log ? v - shift : ::exp(v - seen.top) * scale);
      }
      put(y + r * n, i, out);
    });
  }
}

template <class T, int V, int G>
__global__ void __launch_bounds__(G)
    softmax_backward_passes_kernel(const T* y, const T* dy, T* dx, int64_t rows, int64_t n, bool log) {
  using C = acc_t<T>;
  constexpr C none = minus_infinity<C>();
  __shared__ C part[32];
  const Team<G, C> team{part};
  WEFT_ROW_LOOP(r, rows) {
    C total = 0;
    each_in_row<V, G>(y + r * n, n, team.thread(), [&]<int M>(int64_t, int64_t i, const RowPack<T, M>& raw) {
      const RowPack<T, M> upstream = get<M>(dy + r * n, i);
#pragma unroll
      for (int j = 0; j < M; ++j) {
        const C p = widen(raw.v[j]), g = widen(upstream.v[j]);
        total += !log ? p * g : p == none ? C(0) : g;
      }
    });
    total = team.sum(total);
    each_in_row<V, G>(y + r * n, n, team.thread(), [&]<int M>(int64_t, int64_t i, const RowPack<T, M>& raw) {
      const RowPack<T, M> upstream = get<M>(dy + r * n, i);
      RowPack<T, M> out;
#pragma unroll
      for (int j = 0; j < M; ++j) {
        const C p = widen(raw.v[j]), g = widen(upstream.v[j]);
        out.v[j] = narrow<T>(!log ? p * (g - total) : p == none ? C(0) : g - ::exp(p) * total);
      }
      put(dx + r * n, i, out);
    });
  }
}

// f(Type<T>, V, G): packs where the tensors lie alike, and a large block for a long row, so that few rows are under way
// at a time and the second pass finds them in the cache.
template <int N>
using Int = std::integral_constant<int, N>;
template <class F>
void in_passes(DType d, bool packed, int64_t n, F&& f) {
  dispatch_floating(d, [&]<class T>(Type<T> type) {
    constexpr int V = kPack<T>;
    if (!packed)
      f(type, Int<1>{}, Int<kThreads>{});
    else if (n <= 8192 || V == 2)
      f(type, Int<V>{}, Int<kThreads>{});
    else if constexpr (V > 2)
      f(type, Int<V>{}, Int<1024>{});
  });
}

int row_grid(int64_t rows) { return static_cast<int>(std::min<int64_t>(rows, 132 * 64)); }

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
  in_passes(x.dtype(), alike(x, y), n, [&]<class T, int V, int G>(Type<T>, Int<V>, Int<G>) {
    softmax_passes_kernel<T, V, G><<<row_grid(rows), G, 0, stream()>>>(x.data<T>(), mask, y.data<T>(), rows, n, log);
    check_cuda(cudaGetLastError(), "softmax");
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
  in_passes(y.dtype(), alike(y, dy) && alike(y, dx), n, [&]<class T, int V, int G>(Type<T>, Int<V>, Int<G>) {
    softmax_backward_passes_kernel<T, V, G>
        <<<row_grid(rows), G, 0, stream()>>>(y.data<T>(), dy.data<T>(), dx.data<T>(), rows, n, log);
    check_cuda(cudaGetLastError(), "softmax");
  });
}

}  // namespace weft::cuda
