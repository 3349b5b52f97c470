// Running totals along a dimension. Bool and integers become int64; half types add up in float32.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft {

/// Options of the scans that have a neutral element: cumsum(x, -1, {.exclusive = true}).
struct ScanOptions {
  bool exclusive = false;  ///< element i holds the total of those before it, without its own
  bool reverse = false;    ///< from the end to the start
};

Tensor cumsum(const Tensor& x, int64_t dim, ScanOptions options = {});
/// The gradient is right at zeros too: it never divides.
Tensor cumprod(const Tensor& x, int64_t dim, ScanOptions options = {});
/// log of the running sum of exp(x), without overflow; -inf before the first element that is not -inf.
Tensor logcumsumexp(const Tensor& x, int64_t dim);

/// Values and where they came from: auto [values, indices] = cummax(x, 0).
struct ValuesIndices {
  Tensor values;
  Tensor indices;  ///< int64, positions along dim; non_differentiable
};
/// Largest (smallest) element so far and its position; of equal ones the last, as in PyTorch. NaN wins.
ValuesIndices cummax(const Tensor& x, int64_t dim);
ValuesIndices cummin(const Tensor& x, int64_t dim);

/// h[t] = a[t]·h[t-1] + b[t] along dim, h[-1] = 0 (with reverse, h[t] = a[t]·h[t+1] + b[t]): the linear recurrence of
/// gated and state-space layers. a and b broadcast.
Tensor linear_scan(const Tensor& a, const Tensor& b, int64_t dim, bool reverse = false);

}  // namespace weft
