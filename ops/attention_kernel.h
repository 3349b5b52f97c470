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
  Generator::State at;  // weight (b, h, i, j) drops by word ((b·h + h)·max_q + i)·max_k + j of this stream
  // Key j is visible to query i where -right <= (i - n) - (j - m) <= left; causal is right = 0 and kept as a flag too.
  static constexpr int64_t kNoLimit = int64_t{1} << 40;
  int64_t left = kNoLimit, right = kNoLimit;
  Tensor alibi;                  // [b, h] slopes in float32 (float64 for float64), strides may be 0
  Tensor kv_length;              // int64 [b], stride may be 0: m of each sequence
  Tensor cu_q, cu_k;             // int64 [s + 1]: packed sequences; q, k and v have a batch of 1 and all rows
  int64_t max_q = 0, max_k = 0;  // bounds of n and m: the tensors' own sizes unless packed

  int64_t sequences(int64_t b) const { return cu_q.defined() ? cu_q.shape()[0] - 1 : b; }
  // Whether q, k, v, mask, bias, causal, scale, dropout and fn say all.
  bool basic() const {
    return left == kNoLimit && right == (causal ? 0 : kNoLimit) && !alibi.defined() && !kv_length.defined() &&
           !cu_q.defined();
  }
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
