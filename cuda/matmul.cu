// Products by cuBLAS; the transposed forms are read off the strides. Half types accumulate in float32.
#include <weft/ops/copy.h>
#include <weft/cuda/common.cuh>

#include <cublas_v2.h>

namespace weft::cuda {

namespace {

void check_blas(cublasStatus_t status) {
  check(status == CUBLAS_STATUS_SUCCESS, "matmul: cuBLAS error: ", cublasGetStatusString(status));
}

// One handle a thread and device: a handle is not for use by several threads.
cublasHandle_t handle(int device) {
  thread_local struct Handles {
    cublasHandle_t of[16] = {};
    ~Handles() {
      for (cublasHandle_t h : of) {
        if (h) cublasDestroy(h);
      }
    }
  } handles;
  cublasHandle_t& h = handles.of[device];
  if (!h) {
    check_blas(cublasCreate(&h));
    check_blas(cublasSetMathMode(h, CUBLAS_DEFAULT_MATH));
    check_blas(cublasSetStream(h, stream()));
  }
  return h;
}

struct Operand3 {
  cublasOperation_t op;
  int ld;
  long long batch_stride;
};

// cuBLAS counts in columns: a row-major matrix is the transpose of what it sees.
Operand3 operand(const Tensor& x) {
  const int64_t rows = x.shape()[1], cols = x.shape()[2], rs = x.strides()[1], cs = x.strides()[2];
  const bool transposed = !((cs == 1 || cols == 1) && (rs >= cols || rows == 1));
  const int64_t ld = std::max(transposed ? cs : rs, std::max<int64_t>(transposed ? rows : cols, 1));
  return {transposed ? CUBLAS_OP_T : CUBLAS_OP_N, static_cast<int>(ld), x.shape()[0] == 1 ? 0 : x.strides()[0]};
}

cudaDataType type_of(DType d) {
  switch (d) {
    case DType::float64:
      return CUDA_R_64F;
    case DType::bfloat16:
      return CUDA_R_16BF;
    case DType::float16:
      return CUDA_R_16F;
    default:
      return CUDA_R_32F;
  }
}

// Integers: the plain loop, exact.
__global__ void integer_kernel(Data a, Data b, Data y, int64_t batch, int64_t m, int64_t n, int64_t k, int64_t ab,
                               int64_t ar, int64_t ac, int64_t bb, int64_t br, int64_t bc) {
  WEFT_GRID_LOOP(i, batch * m * n) {
    const int64_t z = i / (m * n), r = i / n % m, c = i % n;
    int64_t sum = 0;
    for (int64_t p = 0; p < k; ++p)
      sum += a.load<int64_t>(z * ab + r * ar + p * ac) * b.load<int64_t>(z * bb + p * br + c * bc);
    y.store(i, sum);
  }
}

}  // namespace

void matmul(const Tensor& a, const Tensor& b, const Tensor& bias, Tensor& y) {
  const int64_t batch = y.shape()[0], m = y.shape()[1], n = y.shape()[2], k = a.shape()[2];
  if (y.numel() == 0) return;
  DeviceScope scope(y);
  auto batch_stride = [](const Tensor& x) { return x.shape()[0] == 1 ? 0 : x.strides()[0]; };
  if (!y.is_floating()) {
    return launch("matmul", y.numel(), integer_kernel, data_of(a), data_of(b), data_of(y), batch, m, n, k,
                  batch_stride(a), a.strides()[1], a.strides()[2], batch_stride(b), b.strides()[1], b.strides()[2]);
  }
  const double beta64 = bias.defined() ? 1 : 0, alpha64 = 1;
  const float beta32 = static_cast<float>(beta64), alpha32 = 1;
  if (bias.defined()) {
    const Tensor rows = as_strided_raw(bias, y.shape(), {0, 0, bias.strides()[0]}, bias.impl().offset);
    copy_into(rows, y);
  } else if (k == 0) {
    fill_into(y, 0);
  }
  if (k == 0) return;
  const bool wide = y.dtype() == float64;
  const void *alpha = wide ? static_cast<const void*>(&alpha64) : &alpha32,
             *beta = wide ? static_cast<const void*>(&beta64) : &beta32;
  const Operand3 x = operand(a), w = operand(b);
  const cudaDataType type = type_of(y.dtype());
  check_blas(cublasGemmStridedBatchedEx(handle(y.device().index), w.op, x.op, static_cast<int>(n), static_cast<int>(m),
                                        static_cast<int>(k), alpha, b.raw_data(), type, w.ld, w.batch_stride,
                                        a.raw_data(), type, x.ld, x.batch_stride, beta, y.raw_data(), type,
                                        static_cast<int>(n), static_cast<long long>(m * n), static_cast<int>(batch),
                                        wide ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

}  // namespace weft::cuda
