// Copying and filling: the two kernels that everything about layout and dtype rests on.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft {

/// dst[...] = src[...], converted to dst's dtype, moved to its device; shapes must be equal, strides may be any. Not
/// recorded. non_blocking: see Tensor::to.
void copy_into(const Tensor& src, Tensor& dst, bool non_blocking = false);
/// dst[...] = value. Not recorded.
void fill_into(Tensor& dst, Scalar value);
/// What every in-place op does first: throws where x may not be written to, and raises its version.
void prepare_write(const Tensor& x, const char* op);

/// x in another dtype; itself where it has that dtype. Differentiable between floats.
Tensor cast(const Tensor& x, DType dtype);

}  // namespace weft
