// Gated linear units, after the linear map: x's two halves along dim are a value and a gate, and the result is
// value·f(gate) (Dauphin et al., arXiv:1612.08083; Shazeer, arXiv:2002.05202). x: [..., 2n, ...] -> [..., n, ...], the
// value first, as PyTorch's glu has it. Neither half is copied, forward or backward. An odd size is an error.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft {

Tensor glu(const Tensor& x, int64_t dim = -1);     ///< f = sigmoid
Tensor geglu(const Tensor& x, int64_t dim = -1);   ///< f = gelu
Tensor swiglu(const Tensor& x, int64_t dim = -1);  ///< f = silu
Tensor reglu(const Tensor& x, int64_t dim = -1);   ///< f = relu

}  // namespace weft
