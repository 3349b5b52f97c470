// The softmax of x-transformers' attention, bit for bit: it is taken in float32 whatever the dtype of the model, so
// that an original "in float64" carries float32's rounding, ten times what a case allows.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft::parity {

/// Weights of scores [..., n] in float64 over the entries where may (bool, broadcasts) is true: converted to float32
/// and computed as PyTorch's CPU kernels do on a machine with 16 float32 lanes, forward and backward; the result is
/// float64.
Tensor float32_softmax(const Tensor& scores, const Tensor& may);

}  // namespace weft::parity
