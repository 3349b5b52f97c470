// Kernels that treat a tensor as rows of n elements: softmax, norms, losses. A row is read and written in the compute
// type: in place for float32 and float64, through a buffer for the halves.
//
// Sums run in lanes: as many partial sums as four of the widest vectors hold, added up pairwise. That vectorises
// without leave to reorder, hides the latency of an addition, and loses less than one running sum.
#pragma once

#include <weft/cpu/simd.h>
#include <weft/cpu/simd_math.h>
#include <weft/cpu/strided.h>

#include <vector>

namespace weft::cpu {

/// Rows a parallel chunk for rows of n elements.
inline int64_t row_grain(int64_t n) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(n, 1)); }

/// Whether rows of T need a buffer to be computed on.
template <class T>
inline constexpr bool kBuffered = !std::is_same_v<T, acc_t<T>>;

/// The n elements at p in the compute type; buffer is used (and must hold n) only for halves.
template <class T>
const acc_t<T>* widen(const T* p, int64_t n, acc_t<T>* buffer) {
  if constexpr (kBuffered<T>) {
    for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
    return buffer;
  } else {
    return p;
  }
}

/// Where to compute a row that belongs at p: there, or for halves in buffer, from where narrow() stores it.
template <class T>
acc_t<T>* row_out([[maybe_unused]] T* p, [[maybe_unused]] acc_t<T>* buffer) {
  if constexpr (kBuffered<T>)
    return buffer;
  else
    return p;
}
template <class T>
void narrow([[maybe_unused]] const acc_t<T>* row, [[maybe_unused]] int64_t n, [[maybe_unused]] T* p) {
  if constexpr (kBuffered<T>) {
    for (int64_t i = 0; i < n; ++i) p[i] = row[i];
  }
}

namespace detail {

// lane[0] op lane[1] op ... op lane[N - 1], pairwise, with sizes that the compiler knows.
template <int N, class C, class Combine>
C fold_lanes(C* lane, Combine combine) {
  if constexpr (N == 1) {
    return lane[0];
  } else {
#pragma GCC unroll 1
    for (int j = 0; j < N / 2; ++j) lane[j] = combine(lane[j], lane[j + N / 2]);
    return fold_lanes<N / 2>(lane, combine);
  }
}

}  // namespace detail

/// combine over term(i), i in [0, n), in lanes that begin at start.
template <class C, class Combine, class Term>
C fold(int64_t n, C start, Combine combine, Term term) {
  constexpr int kLanes = 256 / sizeof(C), kFew = kLanes / 4;
  C rest = start;
  int64_t i = 0;
  if (n >= kFew) {
    C lane[kLanes];
    for (int j = 0; j < kLanes; ++j) lane[j] = start;
    for (; i + kLanes <= n; i += kLanes) {
      for (int j = 0; j < kLanes; ++j) lane[j] = combine(lane[j], term(i + j));
    }
    for (; i + kFew <= n; i += kFew) {
      for (int j = 0; j < kFew; ++j) lane[j] = combine(lane[j], term(i + j));
    }
    rest = detail::fold_lanes<kLanes>(lane, combine);
  }
  for (; i < n; ++i) rest = combine(rest, term(i));
  return rest;
}

template <class C, class Term>
C sum_of(int64_t n, Term term) {
  return fold(
      n, C(0), [](C a, C b) { return a + b; }, term);
}

/// The largest term, -inf for none; NaN is passed over.
template <class C, class Term>
C max_of(int64_t n, Term term) {
  return fold(
      n, -std::numeric_limits<C>::infinity(), [](C a, C b) { return b > a ? b : a; }, term);
}

inline constexpr int64_t kExpStep = 512;  ///< exponentials made at a time, summed while in the L1 cache

/// Σ exp(x[i] - top).
template <class C>
C sum_of_exp(const C* x, int64_t n, C top) {
  C total = 0;
  C e[kExpStep];
  for (int64_t at = 0; at < n; at += kExpStep) {
    const int64_t m = std::min(kExpStep, n - at);
    const C* in = x + at;
    for (int64_t i = 0; i < m; ++i) e[i] = vexp(in[i] - top);
    total += sum_of<C>(m, [&](int64_t i) { return e[i]; });
  }
  return total;
}

/// Offset of row r of a strided tensor, rows counted over all dimensions but the last.
inline int64_t row_offset(const Tensor& x, int64_t r) {
  int64_t offset = 0;
  for (int64_t d = x.dim() - 2; d >= 0; --d) {
    offset += r % x.shape()[d] * x.strides()[d];
    r /= x.shape()[d];
  }
  return offset;
}

/// The n elements of a vector (any dtype, any strides) in the compute type, offset added to each; fallback n times
/// where it is undefined.
template <class C>
class Vector {
 public:
  Vector(const Tensor& x, int64_t n, C fallback, double offset = 0) {
    if (x.defined() && x.dtype() == dtype_of<C>() && x.is_contiguous() && offset == 0) {
      data_ = x.data<C>();
      return;
    }
    copy_.assign(static_cast<size_t>(n), fallback);
    if (x.defined()) {
      const Loop<1> loop(x.shape(), {&x});
      C* out = copy_.data();
      loop.runs(0, n, n, [&](const auto& at, int64_t run) {
        load(x, at[0], loop.inner_stride(0), run, out);
        out += run;
      });
      for (C& v : copy_) v += static_cast<C>(offset);
    }
    data_ = copy_.data();
  }
  Vector(const Vector&) = delete;
  Vector& operator=(const Vector&) = delete;
  const C* data() const { return data_; }

 private:
  const C* data_;
  std::vector<C> copy_;
};

}  // namespace weft::cpu
