// A row stays in the cache while it is walked three times: its largest entry; exponentials and their sum; the result.
#include <weft/cpu/rows.h>

namespace weft::cpu {

namespace {

template <class C>
void mask_row(const bool* mask, int64_t stride, int64_t n, const C* x, C* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = mask[i * stride] ? x[i] : -std::numeric_limits<C>::infinity();
}

// No finite entry: 0 (log: -inf), or NaN if there is one.
template <class C>
void empty_row(const C* x, int64_t n, bool log, C* y) {
  C fill = log ? -std::numeric_limits<C>::infinity() : C(0);
  for (int64_t i = 0; i < n; ++i) fill = x[i] != x[i] ? x[i] : fill;
  for (int64_t i = 0; i < n; ++i) y[i] = fill;
}

// y may be x itself.
template <class C>
void softmax_row(const C* x, int64_t n, C* y) {
  const C top = max_of<C>(n, [&](int64_t i) { return x[i]; });
  if (top == -std::numeric_limits<C>::infinity()) return empty_row(x, n, false, y);
  C total = 0;
  for (int64_t at = 0; at < n; at += kExpStep) {
    const int64_t m = std::min(kExpStep, n - at);
    const C* in = x + at;
    C* out = y + at;
#pragma GCC ivdep
    for (int64_t i = 0; i < m; ++i) out[i] = vexp(in[i] - top);
    total += sum_of<C>(m, [&](int64_t i) { return out[i]; });
  }
  const C scale = C(1) / total;
  for (int64_t i = 0; i < n; ++i) y[i] *= scale;
}

template <class C>
void log_softmax_row(const C* x, int64_t n, C* y) {
  const C top = max_of<C>(n, [&](int64_t i) { return x[i]; });
  if (top == -std::numeric_limits<C>::infinity()) return empty_row(x, n, true, y);
  const C shift = std::log(sum_of_exp(x, n, top));
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] - top - shift;
}

}  // namespace

void softmax(const Tensor& x, const Tensor& mask, bool log, Tensor& y) {
  if (x.numel() == 0) return;
  const int64_t n = x.size(-1), rows = x.numel() / n;
  dispatch_floating(x.dtype(), [&]<class T>(Type<T>) {
    using C = acc_t<T>;
    const T* px = x.data<T>();
    T* py = y.data<T>();
    parallel_for(rows, row_grain(n), [&](int64_t begin, int64_t end) {
      std::vector<C> buffer(static_cast<size_t>(kBuffered<T> ? n : 0));
      C* b = buffer.data();
      vectorized([&] {
        for (int64_t r = begin; r < end; ++r) {
          const C* in = widen(px + r * n, n, b);
          C* out = row_out(py + r * n, b);
          if (mask.defined()) {
            mask_row(mask.data<bool>() + row_offset(mask, r), mask.strides().back(), n, in, out);
            in = out;
          }
          log ? log_softmax_row(in, n, out) : softmax_row(in, n, out);
          narrow(out, n, py + r * n);
        }
      });
    });
  });
}

// softmax: dx = y (dy - Σ y dy); log: dx = dy - exp(y) Σ dy over the entries that are not absent.
void softmax_backward(const Tensor& y, const Tensor& dy, bool log, Tensor& dx) {
  if (y.numel() == 0) return;
  const int64_t n = y.size(-1), rows = y.numel() / n;
  dispatch_floating(y.dtype(), [&]<class T>(Type<T>) {
    using C = acc_t<T>;
    const T *py = y.data<T>(), *pdy = dy.data<T>();
    T* pdx = dx.data<T>();
    parallel_for(rows, row_grain(n), [&](int64_t begin, int64_t end) {
      std::vector<C> buffer(static_cast<size_t>(kBuffered<T> ? 2 * n : 0));
      C *b0 = buffer.data(), *b1 = b0 + (kBuffered<T> ? n : 0);
      vectorized([&] {
        for (int64_t r = begin; r < end; ++r) {
          const C *p = widen(py + r * n, n, b0), *g = widen(pdy + r * n, n, b1);
          C* out = row_out(pdx + r * n, b0);
          if (log) {
            constexpr C none = -std::numeric_limits<C>::infinity();
            const C total = sum_of<C>(n, [&](int64_t i) { return p[i] == none ? C(0) : g[i]; });
#pragma GCC ivdep
            for (int64_t i = 0; i < n; ++i) out[i] = p[i] == none ? C(0) : g[i] - vexp(p[i]) * total;
          } else {
            const C dot = sum_of<C>(n, [&](int64_t i) { return p[i] * g[i]; });
#pragma GCC ivdep
            for (int64_t i = 0; i < n; ++i) out[i] = p[i] * (g[i] - dot);
          }
          narrow(out, n, pdx + r * n);
        }
      });
    });
  });
}

}  // namespace weft::cpu
