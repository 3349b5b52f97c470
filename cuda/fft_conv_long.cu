// The long convolution through cuFFT's complex transform, between kernels that rotate and pad, multiply, and rotate
// back and crop.
#include <weft/ops/create.h>
#include <weft/cuda/fft_conv_long.cuh>
#include <weft/cuda/fft_plan.cuh>

namespace weft::cuda::fft {

namespace {

template <class C>
struct alignas(2 * sizeof(C)) Complex {
  C re, im;
};
template <class C>
__device__ Complex<C> operator*(Complex<C> a, Complex<C> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <class C>
__device__ Complex<C> conj(Complex<C> a) {
  return {a.re, -a.im};
}

// e^(-2πip/4N): what the transform of k + 1/4 has beyond that of k
template <class C>
__device__ Complex<C> quarter(int64_t p, int64_t N) {
  Complex<C> w;
  const double half_turns = static_cast<double>(-p) * (0.5 / static_cast<double>(N));
  if constexpr (std::is_same_v<C, double>)
    sincospi(half_turns, &w.im, &w.re);
  else
    sincospif(static_cast<float>(half_turns), &w.im, &w.re);
  return w;
}

// out: [rows, N] ← x · factor (where there is one), padded with 0 and rotated
template <class C>
__global__ void pack_kernel(Group g, Data x, Data factor, Complex<C>* out) {
  WEFT_ROWS(row, g.batch * g.count) {
    const int64_t from = g.source(row);
    WEFT_GRID_LOOP(p, g.N) {
      C v = p < g.n ? x.load<C>(from + p) : C(0);
      if (factor.data && p < g.n) v *= factor.load<C>(from + p);
      const Complex<C> w = quarter<C>(p, g.N);
      out[row * g.N + p] = {v * w.re, v * w.im};
    }
  }
}

// y ← the real part of in, rotated back, cropped, times factor where there is one
template <class C>
__global__ void unpack_kernel(Group g, const Complex<C>* in, Data factor, Data y) {
  WEFT_ROWS(row, g.batch * g.count) {
    const int64_t to = g.source(row);
    WEFT_GRID_LOOP(p, g.n) {
      C v = (in[row * g.N + p] * conj(quarter<C>(p, g.N))).re;
      if (factor.data) v *= factor.load<C>(to + p);
      y.store(to + p, v);
    }
  }
}

// The taps of both sides as one complex row (see spectra_kernel), over N. out: [count, N]
template <class C>
__global__ void pack_taps_kernel(Group g, ConvArgs a, Complex<C>* out) {
  WEFT_ROWS(i, g.count) {
    const int64_t h = g.first + i;
    WEFT_GRID_LOOP(p, g.N) {
      const int64_t j = g.N - 1 - p;
      Complex<C> v{p < g.n && p < a.taps ? a.k.load<C>(h * a.taps + p) : C(0),
                   a.k_rev.data && j < g.n - 1 && j < a.taps_rev ? a.k_rev.load<C>(h * a.taps_rev + j) : C(0)};
      if (p == 0 && a.d.data) v.re += a.d.load<C>(h);
      const C scale = C(1) / static_cast<C>(g.N);
      out[i * g.N + p] = Complex<C>{v.re * scale, v.im * scale} * quarter<C>(p, g.N);
    }
  }
}

template <class C>
__global__ void unpack_taps_kernel(Group g, ConvArgs a, const Complex<C>* in) {
  WEFT_ROWS(i, g.count) {
    const int64_t h = g.first + i;
    const C scale = C(1) / static_cast<C>(g.N);
    auto at = [&](int64_t p) { return in[i * g.N + p] * conj(quarter<C>(p, g.N)); };
    if (a.dk.data) WEFT_GRID_LOOP(j, a.taps) {
        a.dk.store(h * a.taps + j, j < g.n ? at(j).re * scale : C(0));
      }
    if (a.dk_rev.data) WEFT_GRID_LOOP(j, a.taps_rev) {
        a.dk_rev.store(h * a.taps_rev + j, j < g.n - 1 ? at(g.N - 1 - j).im * scale : C(0));
      }
    if (a.dd.data && blockIdx.x == 0 && threadIdx.x == 0) a.dd.store(h, at(0).re * scale);
  }
}

// x: [batch, count, N] ← x · k, or x · conj(k), k: [count, N]
template <class C>
__global__ void multiply_kernel(Group g, const Complex<C>* k, bool conjugate, Complex<C>* x) {
  WEFT_ROWS(row, g.batch * g.count) {
    WEFT_GRID_LOOP(p, g.N) {
      const Complex<C> w = k[row % g.count * g.N + p];
      x[row * g.N + p] = x[row * g.N + p] * (conjugate ? conj(w) : w);
    }
  }
}

// out: [count, N] ← Σ_b dy · conj(u), in order
template <class C>
__global__ void correlate_kernel(Group g, const Complex<C>* u, const Complex<C>* dy, Complex<C>* out) {
  WEFT_ROWS(i, g.count) {
    WEFT_GRID_LOOP(p, g.N) {
      Complex<C> sum{C(0), C(0)};
      for (int64_t b = 0; b < g.batch; ++b) {
        const int64_t at = (b * g.count + i) * g.N + p;
        const Complex<C> v = dy[at] * conj(u[at]);
        sum.re += v.re, sum.im += v.im;
      }
      out[i * g.N + p] = sum;
    }
  }
}

// The least length from n on that has no prime factor above 7.
int64_t smooth_length(int64_t n) {
  for (;; ++n) {
    int64_t rest = n;
    for (int64_t prime : {2, 3, 5, 7})
      while (rest % prime == 0) rest /= prime;
    if (rest == 1) return n;
  }
}

// One group's work: scratch and the steps that fill it.
template <class C>
struct Steps {
  Group g;
  const ConvArgs& a;
  Device device;

  Tensor scratch(int64_t rows) const { return empty({rows, g.N, 2}, dtype_of<C>(), device); }
  static Complex<C>* complex(const Tensor& x) { return reinterpret_cast<Complex<C>*>(x.data<C>()); }

  template <class... Params, class... Args>
  void run(int64_t rows, int64_t n, void (*kernel)(Params...), const Args&... args) const {
    launch_grid(rows, n, kernel, g, args...);
  }
  void transform_rows(const Tensor& x, bool inverse) const {
    const cufftType type = std::is_same_v<C, double> ? CUFFT_Z2Z : CUFFT_C2C;
    transform({type, g.N, x.size(0), g.N, g.N}, x.raw_data(), x.raw_data(), inverse);
  }

  Tensor spectra() const {
    const Tensor k = scratch(g.count);
    run(g.count, g.N, pack_taps_kernel<C>, a, complex(k));
    transform_rows(k, false);
    return k;
  }
  Tensor forward(Data x, Data factor = {}) const {
    const Tensor y = scratch(g.batch * g.count);
    run(g.batch * g.count, g.N, pack_kernel<C>, x, factor, complex(y));
    transform_rows(y, false);
    return y;
  }
  /// y ← factor · (the rows behind the spectra x, convolved); overwrites x.
  void convolve(const Tensor& x, const Tensor& k, bool conjugate, Data factor, Data y) const {
    run(g.batch * g.count, g.N, multiply_kernel<C>, complex(k), conjugate, complex(x));
    transform_rows(x, true);
    run(g.batch * g.count, g.n, unpack_kernel<C>, complex(x), factor, y);
  }
};

// f(steps of a group) for groups of channels whose scratch, `copies` times the batch's rows, stays near 256 MiB.
template <class C, class F>
void for_steps(const ConvArgs& a, int copies, F f) {
  const int64_t N = smooth_length(a.n);
  for_groups(a, N, (int64_t{copies} * a.batch + 2) * N * 2 * static_cast<int64_t>(sizeof(C)), int64_t{256} << 20,
             [&](const Group& g) {
               f(Steps<C>{g, a, current_device()});
             });
}

}  // namespace

template <class C>
void long_conv(const ConvArgs& a) {
  for_steps<C>(a, 1, [&](const Steps<C>& s) { s.convolve(s.forward(a.u), s.spectra(), false, a.gate, a.y); });
}

template <class C>
void long_conv_backward(const ConvArgs& a) {
  const bool taps = a.dk.data || a.dk_rev.data || a.dd.data;
  for_steps<C>(a, 2, [&](const Steps<C>& s) {
    const Tensor k = a.du.data || a.dgate.data ? s.spectra() : Tensor();
    const Tensor u = taps || a.dgate.data ? s.forward(a.u) : Tensor();
    const Tensor dy = taps || a.du.data ? s.forward(a.dy, a.gate) : Tensor();
    if (taps) {
      const Tensor sum = s.scratch(s.g.count);
      s.run(s.g.count, s.g.N, correlate_kernel<C>, s.complex(u), s.complex(dy), s.complex(sum));
      s.transform_rows(sum, true);
      s.run(s.g.count, std::max({s.g.N, a.taps, a.taps_rev}), unpack_taps_kernel<C>, a, s.complex(sum));
    }
    if (a.du.data) s.convolve(dy, k, true, {}, a.du);
    if (a.dgate.data) s.convolve(u, k, false, a.dy, a.dgate);
  });
}

template void long_conv<float>(const ConvArgs&);
template void long_conv<double>(const ConvArgs&);
template void long_conv_backward<float>(const ConvArgs&);
template void long_conv_backward<double>(const ConvArgs&);

}  // namespace weft::cuda::fft
