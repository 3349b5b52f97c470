// What gemm.cpp needs from one instruction set: the block sizes and the innermost loops (see gemm_kernels.inc).
#pragma once

#include <cstdint>

namespace weft::cpu {

/// A rectangle of C and what to do with it: C = alpha · sum + beta · C. With beta = 0, C is not read.
template <class T>
struct GemmOut {
  T* c;
  int64_t ldc;
  T alpha, beta;
};

/// A matrix as a kernel reads it: element (i, p) at data[i · row + p · col].
template <class T>
struct GemmIn {
  const T* data;
  int64_t row, col;
};

template <class T>
struct GemmKernels {
  int64_t mr, nr;  // rows and columns of the register tile; packed panels have these widths

  /// a: [m, k] to panels of mr rows, each [k, mr], the last one filled up with zeros. Writes ceil(m/mr)·mr·k elements
  /// and may write over up to 16 more.
  void (*pack_a)(bool trans, const T* a, int64_t lda, int64_t m, int64_t k, T* panels);
  /// b: [k, n] to panels of nr columns, each [k, nr], likewise.
  void (*pack_b)(bool trans, const T* b, int64_t ldb, int64_t k, int64_t n, T* panels);
  /// out: [rows <= mr, cols] from a panel of A and one of B. cols <= nr; b is read in full vectors, b_step elements
  /// from one k to the next. a.row is 1 (packed, or A transposed) or a.col is 1 (A as it lies in memory).
  void (*tile)(int64_t rows, int64_t cols, int64_t k, GemmIn<T> a, const T* b, int64_t b_step, GemmOut<T> out);
  /// out: [rows <= 4, cols], any number of columns, from b as it lies: [k, cols]. a as above.
  void (*wide)(int64_t rows, int64_t cols, int64_t k, GemmIn<T> a, const T* b, int64_t ldb, GemmOut<T> out);
  /// out: [rows <= 4, cols] where both operands run along k: out(i, j) = a[i · lda + :] · b[j · ldb + :].
  /// Element (i, j) of the result is at c[i · row + j · col].
  void (*dots)(int64_t rows, int64_t cols, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb, T alpha, T beta,
               T* c, int64_t row, int64_t col);
};

/// The fastest kernels that this processor runs.
template <class T>
const GemmKernels<T>& gemm_kernels();

/// All that this processor runs, fastest first; for the tests.
template <class T>
int gemm_kernel_sets(const GemmKernels<T>* sets[3], const char* names[3]);

}  // namespace weft::cpu
