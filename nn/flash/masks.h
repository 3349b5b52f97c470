// What GAU and FLASH ask of their arguments.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft::flash {

/// int(expansion_factor · dim); throws unless it and the other sizes are positive (and below 2^31).
int64_t hidden_features(const char* owner, int64_t dim, int64_t query_key_dim, double expansion_factor);

/// Throws unless x is [b, n, dim] and mask, if defined, is a boolean [b, n].
void check_input(const char* owner, const Tensor& x, int64_t dim, const Tensor& mask);

/// The number of true places in each row of mask [b, n], at least 1: [b, 1].
Tensor real_lengths(const Tensor& mask, DType dtype);

}  // namespace weft::flash
