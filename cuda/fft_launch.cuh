// Launches of the long convolution's kernels: how a batch is cut into blocks.
#pragma once

#include <weft/ops/create.h>
#include <weft/cuda/fft_conv.cuh>

namespace weft::cuda::fft {

template <class Tile, class... Params, class... Args>
void launch_tile(void (*kernel)(Params...), int64_t blocks, int extra_bytes, const Args&... args) {
  const int bytes = Tile::kBytes + extra_bytes;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "fft_conv");
  check_cuda(
      cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared),
      "fft_conv");
  kernel<<<static_cast<unsigned>(blocks), Tile::kThreads, bytes, stream()>>>(args...);
  check_cuda(cudaGetLastError(), "fft_conv");
}

/// Blocks of a kernel that takes a row a channel.
template <class Tile>
int64_t channel_blocks(const ConvArgs& args) {
  return (args.channels + Tile::kRows - 1) / Tile::kRows;
}

/// Cuts the batch so that a channel's rows share what a block prepares (its tables, its sum), with about `blocks`
/// blocks in all if there are rows enough. By sizes alone: the order of sums must not depend on the device.
template <class Tile>
void cut(ConvArgs& args, int64_t blocks, int64_t most) {
  auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t steps = ceil_div(args.batch, Tile::kRows);  // of one channel: kRows rows at once
  const int64_t chunks = ceil_div(steps, std::clamp<int64_t>(steps * args.channels / blocks, 1, most));
  args.chunk = static_cast<int>(ceil_div(steps, chunks) * Tile::kRows);  // evenly
  args.chunks = static_cast<int>(ceil_div(args.batch, args.chunk));
}

/// y from u and spectra.
template <class Tile>
void launch_conv(ConvArgs& args) {
  cut<Tile>(args, 2048, 8);
  launch_tile<Tile>(conv_kernel<Tile>, int64_t{args.channels} * args.chunks, 0, args);
}

/// du and dgate if they have data and, where the taps' gradients are wanted, sums: the memory of args.sums.
template <class Tile>
Tensor launch_conv_backward(ConvArgs& args, bool taps, Device device) {
  cut<Tile>(args, 528, 16);
  Tensor sums;
  if (taps) {
    sums = empty({int64_t{args.channels} * args.chunks * Tile::kRows, Tile::kPoints, 2}, float32, device);
    args.sums = reinterpret_cast<Cx*>(sums.data<float>());
  }
  const int kept = taps ? Tile::kRows * Tile::kPoints * static_cast<int>(sizeof(Cx)) : 0;  // u's spectra
  launch_tile<Tile>(conv_backward_kernel<Tile>, int64_t{args.channels} * args.chunks, kept, args);
  return sums;
}

}  // namespace weft::cuda::fft
