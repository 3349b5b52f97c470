// Softmax attention for Hopper GPUs: what the general kernels of attention.cu are asked for and may pass on.
// docs/attention_hopper.md explains the kernels.
#pragma once

#include <weft/ops/attention_kernel.h>

namespace weft::cuda {

/// The same arguments and results as attention_forward. False, and nothing done, where the case is not one of these: a
/// GPU of compute capability 9.0; bfloat16 or float16; d = d_v = 64 or 128; softmax without mask, bias or dropout; a
/// positive scale; rows contiguous and 16-byte aligned; no empty tensor.
bool hopper_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                    const AttentionArgs& args, Tensor& out, Tensor& lse);

/// The same arguments and results as attention_backward, and the same cases; a gradient of lse is among them.
bool hopper_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                     const AttentionArgs& args, const Tensor& out, const Tensor& lse, const Tensor& dout,
                     const Tensor& dlse, Tensor& dq, Tensor& dk, Tensor& dv, Tensor& dbias);

}  // namespace weft::cuda
