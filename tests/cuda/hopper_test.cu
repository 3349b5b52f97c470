// The copy engine and every kind of product the attention kernels use, one at a time, against sums on the host.
#include <doctest/doctest.h>
#include <weft/weft.h>
#include <weft/cuda/hopper.cuh>

#include <string>
#include <vector>

using namespace weft;
using namespace weft::cuda;
using namespace weft::cuda::hopper;

namespace {

enum Kind { shared_columns, shared_rows, from_registers };

// d[64, N] = a b. a in shared memory as [64, K] (shared_columns), as [K, 64] (shared_rows), or in registers; b in
// shared memory as [N, K] (BRows = 0) or as [K, N] (1).
template <Kind A, int BRows, int N, int K>
struct Product {
  static constexpr int kARows = A == shared_rows ? K : 64, kACols = A == shared_rows ? 64 : K, kBRows = BRows ? K : N,
                       kBCols = BRows ? N : K;
  struct Shared {
    Tile<__nv_bfloat16, kARows, kACols> a;
    Tile<__nv_bfloat16, kBRows, kBCols> b;
    Barrier full;
  };
};

template <class P, Kind A, int BRows, int N, int K>
__global__ void __launch_bounds__(128)
    product_kernel(const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b, float* out,
                   __nv_bfloat16* a_copy) {
  extern __shared__ char raw[];
  auto& shared = *reinterpret_cast<typename P::Shared*>(raw + (1024 - shared_address(raw) % 1024) % 1024);
  if (threadIdx.x == 0) {
    shared.full.init(1);
    fence_barrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    shared.full.expect(shared.a.kBytes + shared.b.kBytes);
    shared.a.load(a, shared.full, 1, 1, 1);
    shared.b.load(b, shared.full, 1, 1, 1);
  }
  shared.full.wait(0);
  for (int i = threadIdx.x; i < P::kARows * P::kACols; i += 128)
    a_copy[i] = shared.a.chunk(i / P::kACols, i % P::kACols)[i % 8];
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, q = threadIdx.x % 4 * 2;
  float d[N / 2];
  uint32_t operand[K / 4];
  if constexpr (A == from_registers) {
    float value[K / 2];
    for (int i = 0; i < K / 2; ++i) {
      const int r = row + i / 2 % 2 * 8, c = i / 4 * 8 + q + i % 2;
      value[i] = __bfloat162float(shared.a.chunk(r, c)[c % 8]);
    }
    pack_operand<__nv_bfloat16>(value, operand);
  }
  mma_begin();
#pragma unroll
  for (int k = 0; k < K; k += 16) {
    const uint64_t y = BRows ? along_rows(shared.b, k, 0) : along_columns(shared.b, 0, k);
    if constexpr (A == from_registers)
      Mma<__nv_bfloat16, N>::template registers<BRows>(d, operand + k / 4, y, k > 0);
    else if constexpr (A == shared_columns)
      Mma<__nv_bfloat16, N>::template shared<0, BRows>(d, along_columns(shared.a, 0, k), y, k > 0);
    else
      Mma<__nv_bfloat16, N>::template shared<1, BRows>(d, along_rows(shared.a, k, 0), y, k > 0);
  }
  mma_commit();
  mma_wait<0>();
  pin(d);
  for (int i = 0; i < N / 2; ++i) out[(row + i / 2 % 2 * 8) * N + i / 4 * 8 + q + i % 2] = d[i];
}

// How many of the numbers differ, and the first of them.
std::string differences(const std::vector<float>& got, const std::vector<float>& want, int columns, double bound) {
  int wrong = 0;
  std::string first;
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::abs(got[i] - want[i]) <= bound) continue;
    if (wrong++ < 6)
      first += " [" + std::to_string(i / columns) + ", " + std::to_string(i % columns) + "] " + std::to_string(got[i]) +
               " for " + std::to_string(want[i]);
  }
  return wrong == 0 ? "" : std::to_string(wrong) + " of " + std::to_string(want.size()) + " differ:" + first;
}

// A [2, 2, rows + 1 - missing, cols] view on the device, with rows of 2·cols numbers. Its tile is the last head from
// row 1 on, whose last `missing` rows do not exist.
Tensor operand(int rows, int cols, int missing, uint64_t seed, std::vector<float>& tile) {
  Generator g(seed);
  const Tensor x = randn({2, 2, rows + 1 - missing, 2 * cols}, {.device = Device::cpu()}, g).to(bfloat16);
  const Tensor f = slice(x.to(float32), 3, 0, cols).contiguous();
  tile.assign(static_cast<size_t>(rows) * cols, 0.f);
  for (int r = 0; r < rows - missing; ++r)
    for (int c = 0; c < cols; ++c)
      tile[static_cast<size_t>(r) * cols + c] = f.data<float>()[((3 * (rows + 1 - missing)) + r + 1) * cols + c];
  return slice(x.to(Device::cuda()), 3, 0, cols);
}

template <Kind A, int BRows, int N, int K>
void check_product(const char* name) {
  using P = Product<A, BRows, N, K>;
  CAPTURE(name);
  CAPTURE(N);
  CAPTURE(K);
  std::vector<float> a, b, want(64 * N);
  const Tensor ta = operand(P::kARows, P::kACols, 3, 1, a), tb = operand(P::kBRows, P::kBCols, 5, 2, b);
  for (int i = 0; i < 64; ++i)
    for (int j = 0; j < N; ++j) {
      double sum = 0;
      for (int k = 0; k < K; ++k)
        sum += double{A == shared_rows ? a[k * 64 + i] : a[i * K + k]} * (BRows ? b[k * N + j] : b[j * K + k]);
      want[i * N + j] = static_cast<float>(sum);
    }
  const Tensor out = empty({64, N}, float32, Device::cuda()),
               copy = empty({P::kARows, P::kACols}, bfloat16, Device::cuda());
  CUtensorMap ma, mb;
  REQUIRE(tensor_map(ta, P::kARows, ma));
  REQUIRE(tensor_map(tb, P::kBRows, mb));
  constexpr auto kernel = product_kernel<P, A, BRows, N, K>;
  const int bytes = static_cast<int>(sizeof(typename P::Shared)) + 1024;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "hopper_test");
  kernel<<<1, 128, bytes, stream()>>>(ma, mb, out.data<float>(), static_cast<__nv_bfloat16*>(copy.raw_data()));
  check_cuda(cudaGetLastError(), "hopper_test");
  auto host = [](const Tensor& x) {
    const Tensor y = x.to(Device::cpu()).to(float32);
    return std::vector<float>(y.data<float>(), y.data<float>() + y.numel());
  };
  CHECK(differences(host(copy), a, P::kACols, 0) == "");  // the copy engine, boxes and swizzle
  CHECK(differences(host(out), want, N, 1e-3) == "");     // the product, descriptors and registers
}

bool has_hopper() {
  int count = 0, major = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0 &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess && major == 9;
}

}  // namespace

TEST_CASE("hopper: tiles by the copy engine, and products of a warpgroup") {
  if (!has_hopper()) return;
  check_product<shared_columns, 0, 64, 64>("a [m, k], b [n, k]");
  check_product<shared_columns, 0, 128, 64>("a [m, k], b [n, k]");
  check_product<shared_columns, 0, 128, 128>("a [m, k], b [n, k]");
  check_product<shared_columns, 0, 176, 128>("a [m, k], b [n, k]");
  check_product<shared_columns, 1, 64, 128>("a [m, k], b [k, n]");
  check_product<shared_columns, 1, 128, 64>("a [m, k], b [k, n]");
  check_product<shared_rows, 1, 64, 128>("a [k, m], b [k, n]");
  check_product<shared_rows, 1, 128, 128>("a [k, m], b [k, n]");
  check_product<from_registers, 1, 64, 128>("a in registers, b [k, n]");
  check_product<from_registers, 1, 128, 128>("a in registers, b [k, n]");
  check_product<from_registers, 0, 64, 64>("a in registers, b [n, k]");
}
