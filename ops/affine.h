// Several cheap variants of one projection: heads that each scale and shift its features, and turn with the position.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft {

/// Heads of x: head h is x·weight[h] + bias[h], with angles turned as rotary() turns pairs of neighbours. x: [..., d],
/// or [..., n, d] with angles; weight, bias: [heads, d], of any floating dtypes; angles: [n, r / 2] in radians, r at
/// most d → a tensor for each head, of x's shape and dtype, views of one result. Computed in float32 (float64 for
/// float64) and rounded once. Gradients flow to all four. Throws for other dtypes and shapes. Source: OffsetScale of
/// arXiv:2202.10447.
Tensors affine_heads(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& angles = {});

}  // namespace weft
