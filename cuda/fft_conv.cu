// The long convolution: in one kernel where a row fits a block's registers and shared memory, else through cuFFT.
#include <weft/ops/create.h>
#include <weft/cuda/fft_conv_long.cuh>

namespace weft::cuda {

namespace {

using namespace fft;

constexpr int kLongestTile = 8192;

/// f(Type<tile>{}) for the smallest tile that holds n numbers.
template <class F>
void with_tile(int64_t n, F f) {
  if (n <= 256) return f(Type<RowTile<1, 8>>{});
  if (n <= 512) return f(Type<RowTile<1, 16>>{});
  if (n <= 1024) return f(Type<RowTile<1>>{});
  if (n <= 2048) return f(Type<RowTile<2>>{});
  if (n <= 4096) return f(Type<RowTile<4>>{});
  f(Type<RowTile<8>>{});
}

template <class Tile>
void launch_tile(void (*kernel)(ConvArgs), int64_t blocks, int extra_bytes, const ConvArgs& args) {
  const int bytes = Tile::kBytes + extra_bytes;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "fft_conv");
  check_cuda(
      cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared),
      "fft_conv");
  kernel<<<static_cast<unsigned>(blocks), Tile::kThreads, bytes, stream()>>>(args);
  check_cuda(cudaGetLastError(), "fft_conv");
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

ConvArgs conv_args(const Tensor& u, const Tensor& k, const Tensor& k_rev, const Tensor& d, const Tensor& gate) {
  ConvArgs args;
  args.batch = static_cast<int>(u.size(0)), args.channels = static_cast<int>(u.size(1));
  args.n = static_cast<int>(u.size(2));
  args.taps = k.size(1), args.taps_rev = k_rev.defined() ? k_rev.size(1) : 0;
  args.u = data_of(u), args.k = data_of(k), args.k_rev = data_of(k_rev), args.d = data_of(d);
  args.gate = data_of(gate);
  return args;
}

bool fits_tile(const Tensor& u) { return u.dtype() != float64 && u.size(2) <= kLongestTile; }

Tensor scratch(int64_t rows, int points, Device device) { return empty({rows, points, 2}, float32, device); }

/// Blocks of a kernel that takes a row a channel.
template <class Tile>
int64_t channel_blocks(const ConvArgs& args) {
  return (args.channels + Tile::kRows - 1) / Tile::kRows;
}

template <class Tile>
Tensor make_spectra(ConvArgs& args, Device device) {
  const Tensor spectra = scratch(args.channels, Tile::kPoints, device);
  args.spectra = reinterpret_cast<Cx*>(spectra.data<float>());
  launch_tile<Tile>(spectra_kernel<Tile>, channel_blocks<Tile>(args), 0, args);
  return spectra;
}

}  // namespace

void fft_conv(const Tensor& u, const Tensor& k, const Tensor& k_rev, const Tensor& d, const Tensor& gate, Tensor& y) {
  if (y.numel() == 0) return;
  DeviceScope scope(u);
  ConvArgs args = conv_args(u, k, k_rev, d, gate);
  args.y = data_of(y);
  if (!fits_tile(u)) return u.dtype() == float64 ? long_conv<double>(args) : long_conv<float>(args);
  with_tile(args.n, [&]<class Tile>(Type<Tile>) {
    const Tensor spectra = make_spectra<Tile>(args, u.device());
    cut<Tile>(args, 2048, 8);
    launch_tile<Tile>(conv_kernel<Tile>, int64_t{args.channels} * args.chunks, 0, args);
  });
}

void fft_conv_backward(const Tensor& u, const Tensor& k, const Tensor& k_rev, const Tensor& d, const Tensor& gate,
                       const Tensor& dy, Tensor& du, Tensor& dk, Tensor& dk_rev, Tensor& dd, Tensor& dgate) {
  if (dy.numel() == 0) {  // no rows: the taps' gradients are empty sums
    for (Tensor* x : {&dk, &dk_rev, &dd})
      if (x->defined()) x->zero_();
    return;
  }
  DeviceScope scope(u);
  ConvArgs args = conv_args(u, k, k_rev, d, gate);
  args.dy = data_of(dy), args.du = data_of(du), args.dgate = data_of(dgate);
  args.dk = data_of(dk), args.dk_rev = data_of(dk_rev), args.dd = data_of(dd);
  if (!fits_tile(u)) return u.dtype() == float64 ? long_conv_backward<double>(args) : long_conv_backward<float>(args);
  with_tile(args.n, [&]<class Tile>(Type<Tile>) {
    constexpr int kPoints = Tile::kPoints, kKeptBytes = kPoints * Tile::kRows * static_cast<int>(sizeof(Cx));
    const Tensor spectra = du.defined() || dgate.defined() ? make_spectra<Tile>(args, u.device()) : Tensor();
    cut<Tile>(args, 528, 16);
    const bool taps = dk.defined() || dk_rev.defined() || dd.defined();
    const Tensor sums =
        taps ? scratch(int64_t{args.channels} * args.chunks * Tile::kRows, kPoints, u.device()) : Tensor();
    if (taps) args.sums = reinterpret_cast<Cx*>(sums.data<float>());
    launch_tile<Tile>(conv_backward_kernel<Tile>, int64_t{args.channels} * args.chunks, taps ? kKeptBytes : 0, args);
    if (taps) launch_tile<Tile>(taps_backward_kernel<Tile>, channel_blocks<Tile>(args), 0, args);
  });
}

}  // namespace weft::cuda
