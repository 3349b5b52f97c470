// Attention of bfloat16 and float16 on tensor cores. Arguments are those of the kernels attention_forward and
// attention_backward; false: not a case for these kernels, nothing was done.
#pragma once

#include <weft/ops/attention_kernel.h>

namespace weft::cuda {

bool half_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                  const AttentionArgs& args, Tensor& out, Tensor& lse);
bool half_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                   const AttentionArgs& args, const Tensor& out, const Tensor& lse, const Tensor& dout,
                   const Tensor& dlse, Tensor& dq, Tensor& dk, Tensor& dv, Tensor& dbias);

}  // namespace weft::cuda
