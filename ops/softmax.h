// Softmax along one dimension. Computed in float32 (float64 for float64) whatever the storage.
//
// An entry that is -inf, or where mask is false, is absent: it counts nowhere and has probability 0. A row without any
// entry left gives 0 (log_softmax: -inf), and no gradient flows into absent entries: never NaN.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft {

/// y = exp(x) / Σ exp(x) over dim.
Tensor softmax(const Tensor& x, int64_t dim);
/// The same over the entries where mask is true: boolean, broadcasts to x.
Tensor softmax(const Tensor& x, const Tensor& mask, int64_t dim);

/// y = x - log Σ exp(x) over dim.
Tensor log_softmax(const Tensor& x, int64_t dim);
Tensor log_softmax(const Tensor& x, const Tensor& mask, int64_t dim);

}  // namespace weft
