// What a scan does to its running total and the next element, shared by the CPU and CUDA kernels.
#pragma once

#include <weft/tensor/dtype.h>

#include <cmath>
#include <limits>

namespace weft {

enum class ScanOp : uint8_t { sum, prod, logsumexp };

namespace fn {
struct ScanSum {
  template <class T>
  static WEFT_HD T start() {
    return T(0);
  }
  template <class T>
  WEFT_HD T operator()(T total, T v) const {
    return total + v;
  }
};
struct ScanProd {
  template <class T>
  static WEFT_HD T start() {
    return T(1);
  }
  template <class T>
  WEFT_HD T operator()(T total, T v) const {
    return total * v;
  }
};
struct ScanLogSumExp {
  template <class T>
  static WEFT_HD T start() {
    return -std::numeric_limits<T>::infinity();
  }
  template <class T>
  WEFT_HD T operator()(T total, T v) const {
    const T high = total > v || total != total ? total : v, low = total > v || total != total ? v : total;
    if (high == low && std::isinf(high)) return high;  // both -inf or both inf: their difference is NaN
    return high + std::log1p(std::exp(low - high));
  }
};
}  // namespace fn

template <class F>
WEFT_HD void visit(ScanOp op, F&& f) {
  switch (op) {
    case ScanOp::sum:
      return f(fn::ScanSum{});
    case ScanOp::prod:
      return f(fn::ScanProd{});
    case ScanOp::logsumexp:
      return f(fn::ScanLogSumExp{});
  }
}

/// Whether v takes the place of best in a search for the largest (smallest); NaN beats all.
template <class T>
WEFT_HD bool beats(bool largest, T v, T best) {
  return v != v ? best == best : largest ? v > best : v < best;
}

}  // namespace weft
