// The long convolution of rows beyond a RowTile, and of float64: the same polynomials modulo z^N + i, transformed in
// several kernels with complex rows in scratch memory between them.
#pragma once

#include <weft/cuda/fft_conv.cuh>

namespace weft::cuda::fft {

/// y, or whichever of du, dk, dk_rev, dd and dgate have data; spectra and sums are not used.
/// Through cuFFT: C is float or double.
template <class C>
void long_conv(const ConvArgs& args);
template <class C>
void long_conv_backward(const ConvArgs& args);
/// Rows in up to 32 parts that fit a RowTile (fft_conv_parts.cu): n up to kLongestParts, computed in float.
inline constexpr int kPart = 8192, kLongestParts = 32 * kPart;
void parts_conv(const ConvArgs& args);
void parts_conv_backward(const ConvArgs& args);

// --- what they share -----------------------------------------------------------------------------------------------

/// A group of channels, with all of the batch: its rows are [batch, count], each of N complex numbers in scratch.
struct Group {
  int64_t first, count, batch, channels, n, N;
  __device__ int64_t channel(int64_t row) const { return first + row % count; }
  /// Where row's numbers begin in a tensor [batch, channels, n].
  __device__ int64_t source(int64_t row) const { return (row / count * channels + channel(row)) * n; }
};

#define WEFT_ROWS(row, rows) for (int64_t row = blockIdx.y; row < (rows); row += gridDim.y)

#ifdef __CUDACC__
/// kernel(args...) with positions in a row along the grid's x, rows along y.
template <class... Params, class... Args>
void launch_grid(int64_t rows, int64_t n, void (*kernel)(Params...), const Args&... args) {
  if (rows * n == 0) return;
  const dim3 grid(static_cast<unsigned>(blocks_for(n)), static_cast<unsigned>(std::min<int64_t>(rows, 65535)));
  kernel<<<grid, kThreads, 0, stream()>>>(args...);
  check_cuda(cudaGetLastError(), "fft_conv");
}
inline Device current_device() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "fft_conv");
  return Device::cuda(device);
}
/// f(group) for groups of channels that take `bytes` of scratch each and about `most` together.
template <class F>
void for_groups(const ConvArgs& a, int64_t N, int64_t bytes, int64_t most, F f) {
  const int64_t count = std::clamp<int64_t>(most / bytes, 1, a.channels);
  for (int64_t first = 0; first < a.channels; first += count)
    f(Group{first, std::min<int64_t>(count, a.channels - first), a.batch, a.channels, a.n, N});
}
#endif

}  // namespace weft::cuda::fft
