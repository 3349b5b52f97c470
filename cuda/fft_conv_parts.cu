// The long convolution of rows in parts: split, convolve the parts, merge.
#include <weft/ops/create.h>
#include <weft/cuda/fft_conv_parts.cuh>
#include <weft/cuda/fft_launch.cuh>

namespace weft::cuda::fft {

namespace {

/// f(std::integral_constant<int, M>) for the least M parts that hold n numbers.
template <class F>
void with_parts(int64_t n, F f) {
  if (n <= 2 * kPart) return f(std::integral_constant<int, 2>{});
  if (n <= 4 * kPart) return f(std::integral_constant<int, 4>{});
  if (n <= 8 * kPart) return f(std::integral_constant<int, 8>{});
  if (n <= 16 * kPart) return f(std::integral_constant<int, 16>{});
  f(std::integral_constant<int, 32>{});
}

Tensor scratch(int64_t rows, int64_t N, Device device) { return empty({rows, N, 2}, float32, device); }
Cx* complex(const Tensor& x) { return x.defined() ? reinterpret_cast<Cx*>(x.data<float>()) : nullptr; }

template <int M>
Tensor split_rows(const Group& g, Data x, Data factor, Device device) {
  const Tensor parts = scratch(g.batch * g.count, g.N, device);
  launch_grid(g.batch * g.count, kPart, split_kernel<M>, g, x, factor, complex(parts));
  return parts;
}
template <int M>
Tensor taps_spectra(const Group& g, const ConvArgs& a, Device device) {
  const Tensor parts = scratch(g.count, g.N, device), spectra = scratch(g.count, g.N, device);
  launch_grid(g.count, kPart, split_taps_kernel<M>, g, a, complex(parts));
  launch_tile<PartTile>(part_spectra_kernel, g.count * M, 0, complex(parts), complex(spectra));
  return spectra;
}

/// A group's parts as rows of count·M channels, and f(group, their arguments, M) for each group.
template <class F>
void for_part_groups(const ConvArgs& a, int copies, F f) {
  with_parts(a.n, [&]<int M>(std::integral_constant<int, M> parts) {
    const int64_t N = int64_t{M} * kPart, bytes = (int64_t{copies} * a.batch + 2) * N * int64_t{sizeof(Cx)};
    for_groups(a, N, bytes, int64_t{128} << 20, [&](const Group& g) {
      ConvArgs p;
      p.batch = a.batch, p.channels = static_cast<int>(g.count * M), p.n = kPart;
      f(g, p, parts);
    });
  });
}

}  // namespace

void parts_conv(const ConvArgs& a) {
  const Device device = current_device();
  for_part_groups(a, 1, [&]<int M>(const Group& g, ConvArgs& p, std::integral_constant<int, M>) {
    const Tensor spectra = taps_spectra<M>(g, a, device), u = split_rows<M>(g, a.u, {}, device);
    p.u = p.y = data_of(u), p.spectra = complex(spectra);
    launch_conv<PartTile>(p);
    launch_grid(g.batch * g.count, kPart, merge_kernel<M>, g, complex(u), a.gate, a.y);
  });
}

void parts_conv_backward(const ConvArgs& a) {
  const Device device = current_device();
  const bool taps = a.dk.data || a.dk_rev.data || a.dd.data;
  for_part_groups(a, 2, [&]<int M>(const Group& g, ConvArgs& p, std::integral_constant<int, M>) {
    const Tensor spectra = a.du.data || a.dgate.data ? taps_spectra<M>(g, a, device) : Tensor();
    const Tensor u = taps || a.dgate.data ? split_rows<M>(g, a.u, {}, device) : Tensor();
    const Tensor dy = taps || a.du.data ? split_rows<M>(g, a.dy, a.gate, device) : Tensor();
    p.u = data_of(u), p.dy = data_of(dy), p.spectra = complex(spectra);
    if (a.du.data) p.du = data_of(dy);  // in place: a block writes the part that it has read
    if (a.dgate.data) p.dgate = data_of(u);
    const Tensor sums = launch_conv_backward<PartTile>(p, taps, device);
    if (taps) {
      const Tensor parts = scratch(g.count, g.N, device);
      launch_tile<PartTile>(part_sums_kernel, g.count * M, 0, p.sums, p.chunks, complex(parts));
      launch_grid(g.count, kPart, merge_taps_kernel<M>, g, a, complex(parts));
    }
    const int64_t rows = g.batch * g.count;
    if (a.du.data) launch_grid(rows, kPart, merge_kernel<M>, g, complex(dy), Data{}, a.du);
    if (a.dgate.data) launch_grid(rows, kPart, merge_kernel<M>, g, complex(u), a.dy, a.dgate);
  });
}

}  // namespace weft::cuda::fft
