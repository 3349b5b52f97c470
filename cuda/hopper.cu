#include <weft/cuda/hopper.cuh>

namespace weft::cuda::hopper {

namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

// The driver's function, found at run time: the library is not linked against the driver.
Encode encoder() {
  static const Encode found = [] {
    void* at = nullptr;
    cudaDriverEntryPointQueryResult result;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &at, 12000, cudaEnableDefault, &result) !=
            cudaSuccess ||
        result != cudaDriverEntryPointSuccess)
      at = nullptr;
    return reinterpret_cast<Encode>(at);
  }();
  return found;
}

}  // namespace

bool tensor_map(const Tensor& x, int rows, CUtensorMap& map) {
  const Shape &shape = x.shape(), &strides = x.strides();
  if (encoder() == nullptr || (shape[3] != 1 && strides[3] != 1)) return false;
  cuuint64_t sizes[4], steps[3];  // innermost first; steps in bytes
  for (int d = 0; d < 4; ++d) {
    if (shape[d] < 1 || shape[d] > INT32_MAX) return false;
    sizes[3 - d] = static_cast<cuuint64_t>(shape[d]);
  }
  for (int d = 0; d < 3; ++d) {
    const int64_t bytes = shape[d] == 1 ? 16 * ((shape[3] * 2 + 15) / 16) : strides[d] * 2;  // of a size 1: any
    if (bytes <= 0 || bytes % 16 != 0 || bytes >= int64_t{1} << 40) return false;
    steps[2 - d] = static_cast<cuuint64_t>(bytes);
  }
  if (reinterpret_cast<uintptr_t>(x.raw_data()) % 16 != 0) return false;
  const cuuint32_t box[4] = {64, static_cast<cuuint32_t>(rows), 1, 1}, every[4] = {1, 1, 1, 1};
  return encoder()(&map, x.dtype() == bfloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 4,
                   x.raw_data(), sizes, steps, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace weft::cuda::hopper
