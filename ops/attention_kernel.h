// What the attention kernels of both devices are told besides their tensors, and the weight functions as numbers.
#pragma once

#include <weft/ops/attention.h>
#include <weft/ops/elementwise_fn.h>

namespace weft {

struct AttentionArgs {
  AttentionFn fn = AttentionFn::softmax;
  bool causal = false;
  double scale = 1;
  double dropout = 0;
  Generator::State at;  // weight (b, h, i, j) drops by word ((b·h + h)·n + i)·m + j of this stream
};

namespace fn {
// clang-format off
struct ReluSquared {
  template <class T> WEFT_HD T operator()(T s) const { return s > T(0) ? s * s : T(0); }
  template <class T> WEFT_HD T derivative(T s) const { return s > T(0) ? T(2) * s : T(0); }
};
struct Laplace {  // (1 + erf(z)) / 2 with z = (s - √½)·√(2π)
  static constexpr double kMean = 0.70710678118654752440, kInverse = 2.50662827463100050242, kInvSqrtPi = 0.56418958354775628695;
  template <class T> WEFT_HD T operator()(T s) const { return T(0.5) * (T(1) + num::erf((s - T(kMean)) * T(kInverse))); }
  template <class T> WEFT_HD T derivative(T s) const { const T z = (s - T(kMean)) * T(kInverse); return T(kInverse * kInvSqrtPi) * num::exp(-z * z); }
};
// clang-format on
}  // namespace fn

}  // namespace weft
