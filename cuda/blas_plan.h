// Between the two halves of blas.h: how an operand is named to cuBLASLt (blas.cu), and plans (blas_plan.cu).
#pragma once

#include <weft/cuda/blas.h>

#include <cublasLt.h>

namespace weft::cuda {

/// A matrix as the library names it: rows and cols as stored, column after column.
struct StoredMatrix {
  int64_t rows, cols, ld, batch_stride;
  cublasOperation_t op;  // what turns it into the transpose of our matrix
};
StoredMatrix stored(const Matrices& x);

/// The largest power of two up to limit that divides the address.
uint32_t alignment(const void* p, uint32_t limit = 256);

/// Multiplications in p.
inline double work_of(const Product& p) {
  return static_cast<double>(p.batch) * static_cast<double>(p.a.rows) * static_cast<double>(p.a.cols) *
         static_cast<double>(p.b.cols);
}

/// multiply without a copy of anything.
bool multiply_as_it_lies(const Product& p);

}  // namespace weft::cuda
