// Attention whose weights are a function of one score each (relu², Laplace) over wide values, by matrix products.
#pragma once

#include <weft/ops/attention_kernel.h>

namespace weft::cuda {

/// The arguments and results of attention_forward and attention_backward. False, and nothing done, where the case is
/// not one of these: bfloat16; no softmax; values of 128 features and more; as many key-value heads as query heads;
/// neither kv_length nor packed sequences; no window to the left that hides anything; no empty tensor.
bool products_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                      const AttentionArgs& args, Tensor& out);
bool products_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                       const AttentionArgs& args, const Tensor& dout, Tensor& dq, Tensor& dk, Tensor& dv,
                       Tensor& dbias);

}  // namespace weft::cuda
