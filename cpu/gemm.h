// Matrix products on the CPU, row-major, for float and double.
//
//   C = alpha · op(A) · op(B) + beta · C        op(A): [m, k], op(B): [k, n], C: [m, n]
//
// op(X) is X, or its transpose where trans_x is true; ld* is the distance in elements from one row as stored to the
// next, so A is stored [m, k] with lda >= k, or transposed [k, m] with lda >= m. With beta = 0, C is only written: it
// may hold anything, NaN too. With k = 0 or alpha = 0, A and B are not read. C must not overlap A or B.
//
// The kernels are chosen at run time for the processor (AVX-512, AVX2 with FMA, or plain vectors). How the work is
// split depends on the sizes alone, so on one machine the bits of C depend neither on the number of threads nor on
// whether gemm or gemm_serial was called.
#pragma once

#include <cstdint>

namespace weft::cpu {

/// The product, on as many threads as parallel_for gives.
template <class T>
void gemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda, const T* b,
          int64_t ldb, T beta, T* c, int64_t ldc);

/// The same on the calling thread only: for loops that are parallel already (batches, attention).
template <class T>
void gemm_serial(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda,
                 const T* b, int64_t ldb, T beta, T* c, int64_t ldc);

extern template void gemm<float>(bool, bool, int64_t, int64_t, int64_t, float, const float*, int64_t, const float*,
                                 int64_t, float, float*, int64_t);
extern template void gemm<double>(bool, bool, int64_t, int64_t, int64_t, double, const double*, int64_t, const double*,
                                  int64_t, double, double*, int64_t);
extern template void gemm_serial<float>(bool, bool, int64_t, int64_t, int64_t, float, const float*, int64_t,
                                        const float*, int64_t, float, float*, int64_t);
extern template void gemm_serial<double>(bool, bool, int64_t, int64_t, int64_t, double, const double*, int64_t,
                                         const double*, int64_t, double, double*, int64_t);

}  // namespace weft::cpu
