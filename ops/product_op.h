// For operations that are made of products and manage their own memory.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft::detail {

/// An uninitialised matrix [rows, cols] whose rows all begin at a multiple of 16 bytes, so that they may be further
/// apart than they are long: products read and write these several times faster than rows that begin anywhere.
Tensor empty_rows(int64_t rows, int64_t cols, DType dtype, Device device);

/// y = a · b, or y += a · b, not recorded and not versioned. a: [m, k], b: [k, n] of one floating dtype, of any
/// strides; y: [m, n], elements of a row side by side; float32 is allowed for half a and b, and is what their sum over
/// several calls should be kept in.
void multiply_into(const Tensor& a, const Tensor& b, Tensor& y, bool accumulate = false);

}  // namespace weft::detail
