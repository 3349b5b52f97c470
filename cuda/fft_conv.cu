// The long convolution: in one kernel where a row fits a block's registers and shared memory, in parts that do where it
// is longer, and through cuFFT beyond those and in float64.
#include <weft/cuda/fft_conv_long.cuh>
#include <weft/cuda/fft_launch.cuh>

namespace weft::cuda {

namespace {

using namespace fft;

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

ConvArgs conv_args(const Tensor& u, const Tensor& k, const Tensor& k_rev, const Tensor& d, const Tensor& gate) {
  ConvArgs args;
  args.batch = static_cast<int>(u.size(0)), args.channels = static_cast<int>(u.size(1));
  args.n = static_cast<int>(u.size(2));
  args.taps = k.size(1), args.taps_rev = k_rev.defined() ? k_rev.size(1) : 0;
  args.u = data_of(u), args.k = data_of(k), args.k_rev = data_of(k_rev), args.d = data_of(d);
  args.gate = data_of(gate);
  return args;
}

template <class Tile>
Tensor make_spectra(ConvArgs& args, Device device) {
  const Tensor spectra = empty({args.channels, Tile::kPoints, 2}, float32, device);
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
  if (u.dtype() == float64) return long_conv<double>(args);
  if (args.n > kLongestParts) return long_conv<float>(args);
  if (args.n > kPart) return parts_conv(args);
  with_tile(args.n, [&]<class Tile>(Type<Tile>) {
    const Tensor spectra = make_spectra<Tile>(args, u.device());
    launch_conv<Tile>(args);
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
  if (u.dtype() == float64) return long_conv_backward<double>(args);
  if (args.n > kLongestParts) return long_conv_backward<float>(args);
  if (args.n > kPart) return parts_conv_backward(args);
  with_tile(args.n, [&]<class Tile>(Type<Tile>) {
    const Tensor spectra = du.defined() || dgate.defined() ? make_spectra<Tile>(args, u.device()) : Tensor();
    const bool taps = dk.defined() || dk_rev.defined() || dd.defined();
    const Tensor sums = launch_conv_backward<Tile>(args, taps, u.device());
    if (taps) launch_tile<Tile>(taps_backward_kernel<Tile>, channel_blocks<Tile>(args), 0, args);
  });
}

}  // namespace weft::cuda
