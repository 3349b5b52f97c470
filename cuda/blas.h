// Matrix products by cuBLASLt, as the kernels of this folder ask for them: row-major, batched, of any strides that the
// library can take, with what it can do to the result on the way out.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft::cuda {

/// A batch of matrices: element (i, j) of matrix b lies at b·batch_stride + i·row_stride + j·col_stride. One of a
/// matrix's strides is 1, the other is at least the extent of what it steps over; a batch stride of 0 repeats a matrix.
struct Matrices {
  void* data = nullptr;
  DType dtype = float32;
  int64_t rows = 0, cols = 0;
  int64_t row_stride = 0, col_stride = 0, batch_stride = 0;
};

/// x: [rows, cols] or [batch, rows, cols]; a batch of 1 repeats.
Matrices matrices(const Tensor& x);
Matrices transposed(const Matrices& x);

/// What happens to the sum s = Σ_k a[i, k]·b[k, j] before it is stored as y[i, j]. vector has n entries of y's dtype,
/// aux is [m, n] of y's dtype.
enum class Epilogue : uint8_t {
  none,
  bias,           ///< s + vector[j]
  relu,           ///< max(s, 0)
  relu_bias,      ///< max(s + vector[j], 0)
  gelu,           ///< gelu_tanh(s)
  gelu_bias,      ///< gelu_tanh(s + vector[j])
  gelu_aux,       ///< as gelu, and aux[i, j] gets its argument
  gelu_aux_bias,  ///< as gelu_bias, and aux[i, j] gets its argument
  gelu_grad,      ///< s·gelu_tanh'(aux[i, j])
  row_sums,       ///< s, and vector[i] (m entries) gets Σ_k a[i, k]
  col_sums        ///< s, and vector[j] (n entries) gets Σ_k b[k, j]
};

/// y = a·b: [batch, m, k] · [batch, k, n] → [batch, m, n], col_stride of y 1, k at least 1. float32 and float64 in one
/// dtype; half types accumulate in float32 and y may be float32 too.
struct Product {
  const char* op = "matmul";  // for messages
  Matrices a, b, y;
  int64_t batch = 1;
  bool accumulate = false;      // y += a·b
  const void* start = nullptr;  // what is added instead of y then; lies as y does
  Epilogue epilogue = Epilogue::none;
  void* vector = nullptr;
  void* aux = nullptr;
  int64_t aux_stride = 0;  // from row to row
};

/// Computes p on stream(). False, with nothing done, where the library has no such epilogue for these operands; a
/// product without one is always there. Large products of half types whose rows begin at odd addresses run on copies
/// with padded rows. Throws naming op and shapes. The current device is that of the operands.
bool multiply(const Product& p);

}  // namespace weft::cuda
