// What the losses over classes share: their kernels, and the gradient as ops.
#pragma once

#include <weft/ops/kernel.h>
#include <weft/ops/loss.h>

namespace weft {

// logits: contiguous [..., c], r rows, or [r, c] with rows at a larger stride; target: contiguous int64 [r]; weight:
// [c] or undefined. By row, in the compute type: loss [r], its weight in the mean [r] (0 where ignored), log Σ exp [r].
WEFT_DECLARE_KERNEL(cross_entropy, const Tensor& logits, const Tensor& target, const Tensor& weight,
                    int64_t ignore_index, double smoothing, Tensor& loss, Tensor& row_weight, Tensor& lse)
// scale: what the gradient of each row is multiplied by, [r] or [1] in the compute type. logits, dlogits: contiguous.
WEFT_DECLARE_KERNEL(cross_entropy_backward, const Tensor& logits, const Tensor& target, const Tensor& weight,
                    int64_t ignore_index, double smoothing, const Tensor& lse, const Tensor& scale, Tensor& dlogits)
// Both at once: the loss of each row, and the gradient in place of the logits; rows at any stride.
WEFT_DECLARE_KERNEL(cross_entropy_over, Tensor& logits, const Tensor& target, const Tensor& weight,
                    int64_t ignore_index, double smoothing, const Tensor& scale, Tensor& loss)
// What each row weighs in the mean, in the compute type; checks the targets on behalf of op, of c classes.
WEFT_DECLARE_KERNEL(row_weights, const char* op, const Tensor& target, const Tensor& weight, int64_t ignore_index,
                    int64_t c, Tensor& row_weight)
// x times a factor of one element in x's compute type, in place; costs nothing where the factor is 1. x: contiguous.
WEFT_DECLARE_KERNEL(scale_over, Tensor& x, const Tensor& factor)

namespace detail {

/// How far rows of logits are apart.
inline int64_t row_stride(const Tensor& x) { return x.dim() < 2 ? x.size(-1) : x.strides()[x.dim() - 2]; }

/// float64 for float64, else float32.
inline DType loss_dtype(const Tensor& x) { return x.dtype() == float64 ? float64 : float32; }

/// A mean over rows of total weight 0 is 0: what to divide by instead.
Tensor guarded(const Tensor& total);

/// The gradient by logits x [..., c], as ops: scale · (p · Σ q - q) with p = softmax(x) and q the smoothed target times
/// the class weights. target: [r]; scale: [r] or [1]. In the compute type.
Tensor cross_entropy_gradient(const Tensor& x, const Tensor& target, const CrossEntropyOptions& o, const Tensor& scale);

/// Checks what does not depend on the logits' shape.
void check_cross_entropy(const char* op, int64_t classes, const CrossEntropyOptions& o);

}  // namespace detail

}  // namespace weft
