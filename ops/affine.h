// Several cheap variants of one projection: heads that each scale and shift its features.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft {

/// y[..., h, i] = x[..., i]·weight[h, i] + bias[h, i]. x: [..., d]; weight, bias: [heads, d], of any floating dtypes →
/// [..., heads, d] in x's dtype, computed in float32 (float64 for float64). Throws for other dtypes and shapes. Source:
/// OffsetScale of arXiv:2202.10447.
Tensor affine_heads(const Tensor& x, const Tensor& weight, const Tensor& bias);

}  // namespace weft
