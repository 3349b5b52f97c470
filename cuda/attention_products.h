// Attention whose values are wider than its matrix of weights: two products by cuBLASLt with that matrix in memory
// between them. Arguments are those of the kernels attention_forward and attention_backward; false: not such a case,
// nothing was done.
#pragma once

#include <weft/ops/attention_kernel.h>

namespace weft::cuda {

/// The case: bfloat16, d_v > 256, no more keys than d_v, a function of each score alone (not softmax), as many
/// key-value heads as query heads; no dropout, slopes, lengths or packed sequences.
bool products_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                      const AttentionArgs& args, Tensor& out);
bool products_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                       const AttentionArgs& args, const Tensor& dout, Tensor& dq, Tensor& dk, Tensor& dv,
                       Tensor& dbias);

}  // namespace weft::cuda
