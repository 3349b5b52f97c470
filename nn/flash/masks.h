// What GAU and FLASH ask of their arguments.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft::flash {

/// Throws unless x is [b, n, dim] and mask, if defined, is a boolean [b, n].
void check_input(const char* owner, const Tensor& x, int64_t dim, const Tensor& mask);

/// The number of true places in each row of mask [b, n], at least 1: [b, 1].
Tensor real_lengths(const Tensor& mask, DType dtype);

}  // namespace weft::flash
