// Cross entropy: the forward reads the logits once from memory (a row stays in the cache) and keeps log Σ exp a row;
// the backward reads them once more and writes the gradient.
#include <weft/cpu/rows.h>
#include <weft/ops/loss_op.h>

namespace weft::cpu {

namespace {

// -inf where every entry is.
template <class C>
C log_sum_exp(const C* x, int64_t n) {
  const C top = max_of<C>(n, [&](int64_t i) { return x[i]; });
  return top == -std::numeric_limits<C>::infinity() ? top : top + std::log(sum_of_exp(x, n, top));
}

// How much of a row's target lies on the class itself (on) and on every class (all), before class weights.
template <class C>
struct Smoothing {
  C on, all;
  Smoothing(double smoothing, int64_t n)
      : on(static_cast<C>(1 - smoothing)), all(static_cast<C>(smoothing / static_cast<double>(n))) {}
};

// A row's loss for class t, whose logit and log Σ exp are known.
template <class C>
C row_loss(const C* x, int64_t n, int64_t t, C sum, const Smoothing<C>& s, const C* w) {
  if (sum == -std::numeric_limits<C>::infinity()) return std::numeric_limits<C>::infinity();
  C value = s.on * w[t] * (sum - x[t]);
  if (s.all > 0) value += s.all * sum_of<C>(n, [&](int64_t i) { return w[i] * (sum - x[i]); });
  return value;
}

// With q the smoothed target times the class weights: out = g·(exp(x - lse)·Σ q - q). spread: Σ all·w; out may be x.
template <class C>
void row_gradient(const C* x, int64_t n, int64_t t, C sum, C g, C spread, const Smoothing<C>& s, const C* w, C* out) {
  if (sum == -std::numeric_limits<C>::infinity()) {
    std::fill(out, out + n, C(0));
    return;
  }
  const C hit = s.on * w[t], total = g * (hit + spread), each = g * s.all;
  if (each == C(0)) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) out[i] = total * vexp(x[i] - sum);
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) out[i] = total * vexp(x[i] - sum) - each * w[i];
  }
  out[t] -= g * hit;
}

void check_target(const char* op, int64_t t, int64_t ignore_index, int64_t n) {
  check(t == ignore_index || (t >= 0 && t < n), op, ": target ", t, " is out of range for ", n, " classes");
}

}  // namespace

void cross_entropy(const Tensor& logits, const Tensor& target, const Tensor& weight, int64_t ignore_index,
                   double smoothing, Tensor& loss, Tensor& row_weight, Tensor& lse) {
  const int64_t n = logits.size(-1), rows = target.numel(), stride = weft::detail::row_stride(logits);
  dispatch_floating(logits.dtype(), [&]<class T>(Type<T>) {
    using C = acc_t<T>;
    const Vector<C> factors(weight, n, C(1));
    const C* w = factors.data();
    const Smoothing<C> s(smoothing, n);
    const T* px = logits.data<T>();
    const int64_t* t = target.data<int64_t>();
    C *out = loss.data<C>(), *out_weight = row_weight.data<C>(), *out_lse = lse.data<C>();
    parallel_for(rows, row_grain(n), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) check_target("cross_entropy", t[r], ignore_index, n);
      std::vector<C> buffer(static_cast<size_t>(kBuffered<T> ? n : 0));
      vectorized([&] {
        for (int64_t r = begin; r < end; ++r) {
          if (t[r] == ignore_index) {
            out[r] = out_weight[r] = out_lse[r] = C(0);
            continue;
          }
          const C* x = widen(px + r * stride, n, buffer.data());
          const C sum = log_sum_exp(x, n);
          out[r] = row_loss(x, n, t[r], sum, s, w), out_weight[r] = w[t[r]], out_lse[r] = sum;
        }
      });
    });
  });
}

void cross_entropy_backward(const Tensor& logits, const Tensor& target, const Tensor& weight, int64_t ignore_index,
                            double smoothing, const Tensor& lse, const Tensor& scale, Tensor& dlogits) {
  const int64_t n = logits.size(-1), rows = target.numel();
  dispatch_floating(logits.dtype(), [&]<class T>(Type<T>) {
    using C = acc_t<T>;
    const Vector<C> factors(weight, n, C(1));
    const C* w = factors.data();
    const Smoothing<C> s(smoothing, n);
    const C spread = s.all * sum_of<C>(n, [&](int64_t i) { return w[i]; });
    const T* px = logits.data<T>();
    T* pdx = dlogits.data<T>();
    const int64_t* t = target.data<int64_t>();
    const C *sums = lse.data<C>(), *scales = scale.data<C>();
    const int64_t scale_step = scale.numel() == 1 ? 0 : 1;
    parallel_for(rows, row_grain(n), [&](int64_t begin, int64_t end) {
      std::vector<C> buffer(static_cast<size_t>(kBuffered<T> ? n : 0));
      vectorized([&] {
        for (int64_t r = begin; r < end; ++r) {
          C* out = row_out(pdx + r * n, buffer.data());
          if (t[r] == ignore_index)
            std::fill(out, out + n, C(0));
          else
            row_gradient(widen(px + r * n, n, buffer.data()), n, t[r], sums[r], scales[r * scale_step], spread, s, w,
                         out);
          narrow(out, n, pdx + r * n);
        }
      });
    });
  });
}

void cross_entropy_over(Tensor& logits, const Tensor& target, const Tensor& weight, int64_t ignore_index,
                        double smoothing, const Tensor& scale, Tensor& loss) {
  const int64_t n = logits.size(-1), rows = target.numel(), stride = weft::detail::row_stride(logits);
  dispatch_floating(logits.dtype(), [&]<class T>(Type<T>) {
    using C = acc_t<T>;
    const Vector<C> factors(weight, n, C(1));
    const C* w = factors.data();
    const Smoothing<C> s(smoothing, n);
    const C spread = s.all * sum_of<C>(n, [&](int64_t i) { return w[i]; });
    T* px = logits.data<T>();
    const int64_t* t = target.data<int64_t>();
    const C* scales = scale.data<C>();
    C* losses = loss.data<C>();
    const int64_t scale_step = scale.numel() == 1 ? 0 : 1;
    parallel_for(rows, row_grain(n), [&](int64_t begin, int64_t end) {
      std::vector<C> buffer(static_cast<size_t>(kBuffered<T> ? n : 0));
      vectorized([&] {
        for (int64_t r = begin; r < end; ++r) {
          const C* x = widen(px + r * stride, n, buffer.data());
          C* out = row_out(px + r * stride, buffer.data());
          if (t[r] == ignore_index) {
            losses[r] = 0;
            std::fill(out, out + n, C(0));
          } else {
            const C sum = log_sum_exp(x, n);
            losses[r] = row_loss(x, n, t[r], sum, s, w);
            row_gradient(x, n, t[r], sum, scales[r * scale_step], spread, s, w, out);
          }
          narrow(out, n, px + r * stride);
        }
      });
    });
  });
}

void row_weights(const char* op, const Tensor& target, const Tensor& weight, int64_t ignore_index, int64_t n,
                 Tensor& row_weight) {
  dispatch_floating(row_weight.dtype(), [&]<class C>(Type<C>) {
    if constexpr (std::is_same_v<C, acc_t<C>>) {
      const Vector<C> factors(weight, n, C(1));
      const int64_t* t = target.data<int64_t>();
      C* out = row_weight.data<C>();
      for (int64_t r = 0; r < target.numel(); ++r) {
        check_target(op, t[r], ignore_index, n);
        out[r] = t[r] == ignore_index ? C(0) : factors.data()[t[r]];
      }
    }
  });
}

void scale_over(Tensor& x, const Tensor& factor) {
  const double f = factor.item();
  if (f == 1) return;
  if (x.dtype() == float64)
    map<double, double>([f](double v) { return v * f; }, x, x);
  else
    map<float, float>([f = static_cast<float>(f)](float v) { return v * f; }, x, x);
}

}  // namespace weft::cpu
