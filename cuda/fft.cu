// Transforms by cuFFT. The long convolution is the plain sum here: one thread an output.
#include <weft/cuda/block.cuh>

#include <cufft.h>

#include <map>
#include <tuple>

namespace weft::cuda {

namespace {

void check_fft(cufftResult status) { check(status == CUFFT_SUCCESS, "fft: cuFFT error ", static_cast<int>(status)); }

// Plans by kind, length and rows; one set a thread, since a plan has scratch memory of its own.
cufftHandle plan(cufftType kind, int64_t n, int64_t rows, int device) {
  struct Plans {
    std::map<std::tuple<int, int64_t, int64_t, int>, cufftHandle> all;
    ~Plans() { clear(); }
    void clear() {
      for (auto& [key, handle] : all) cufftDestroy(handle);
      all.clear();
    }
  };
  thread_local Plans plans;
  if (plans.all.size() > 64) plans.clear();
  auto [it, fresh] = plans.all.try_emplace({kind, n, rows, device}, 0);
  if (fresh) check_fft(cufftPlan1d(&it->second, static_cast<int>(n), kind, static_cast<int>(rows)));
  check_fft(cufftSetStream(it->second, stream()));
  return it->second;
}

// y: [rows, n] ← x: [rows, length], cropped or padded with 0
template <class C>
__global__ void fit_kernel(Data x, int64_t length, C* y, int64_t n, int64_t rows) {
  WEFT_GRID_LOOP(i, rows * n) { y[i] = i % n < length ? x.load<C>(i / n * length + i % n) : C(0); }
}

// y: [rows, n/2 + 1, 2] ← x: [rows, length, 2], with the imaginary parts that take no part set to 0
template <class C>
__global__ void fit_spectrum_kernel(Data x, int64_t length, C* y, int64_t n, int64_t rows) {
  const int64_t bins = n / 2 + 1;
  WEFT_GRID_LOOP(i, rows * bins * 2) {
    const int64_t k = i / 2 % bins, row = i / 2 / bins;
    const bool dead = i % 2 == 1 && (k == 0 || (n % 2 == 0 && k == n / 2));
    y[i] = k < length && !dead ? x.load<C>((row * length + k) * 2 + i % 2) : C(0);
  }
}

template <class C>
__global__ void scale_kernel(const C* x, Data y, int64_t n, C scale) {
  WEFT_GRID_LOOP(i, n) { y.store(i, x[i] * scale); }
}

template <class C>
__global__ void long_conv_kernel(Data u, Data k, Data k_rev, Data d, Data y, int64_t b, int64_t h, int64_t n,
                                 int64_t taps, int64_t taps_rev) {
  WEFT_GRID_LOOP(i, b * h * n) {
    const int64_t t = i % n, channel = i / n % h, row = i - t;
    C sum = d.data ? d.load<C>(channel) * u.load<C>(i) : C(0);
    for (int64_t j = 0; j <= t && j < taps; ++j) sum += k.load<C>(channel * taps + j) * u.load<C>(row + t - j);
    for (int64_t j = 0; j < taps_rev && t + 1 + j < n; ++j)
      sum += k_rev.load<C>(channel * taps_rev + j) * u.load<C>(row + t + 1 + j);
    y.store(i, sum);
  }
}

// du[t] = Σ k[j]·dy[t + j] + Σ k_rev[j]·dy[t - 1 - j] + D·dy[t]
template <class C>
__global__ void long_conv_du_kernel(Data dy, Data k, Data k_rev, Data d, Data du, int64_t b, int64_t h, int64_t n,
                                    int64_t taps, int64_t taps_rev) {
  WEFT_GRID_LOOP(i, b * h * n) {
    const int64_t t = i % n, channel = i / n % h, row = i - t;
    C sum = d.data ? d.load<C>(channel) * dy.load<C>(i) : C(0);
    for (int64_t j = 0; j < taps && t + j < n; ++j) sum += k.load<C>(channel * taps + j) * dy.load<C>(row + t + j);
    for (int64_t j = 0; j < taps_rev && j <= t - 1; ++j)
      sum += k_rev.load<C>(channel * taps_rev + j) * dy.load<C>(row + t - 1 - j);
    du.store(i, sum);
  }
}

// A block a tap: dk[j] = Σ dy[t]·u[t - lag] over batch and time, with lag = j, or -1 - j for the reversed kernel.
template <class C>
__global__ void long_conv_dk_kernel(Data u, Data dy, Data dk, int64_t b, int64_t h, int64_t n, int64_t taps,
                                    bool reversed) {
  __shared__ C part[kThreads];
  WEFT_ROW_LOOP(i, h * taps) {
    const int64_t channel = i / taps, j = i % taps, lag = reversed ? -1 - j : j;
    C sum = 0;
    WEFT_THREAD_LOOP(e, b * n) {
      const int64_t row = (e / n * h + channel) * n, t = e % n, from = t - lag;
      if (from >= 0 && from < n) sum += dy.load<C>(row + t) * u.load<C>(row + from);
    }
    sum = block_sum(sum, part);
    if (threadIdx.x == 0) dk.store(i, sum);
  }
}

}  // namespace

void rfft(const Tensor& x, int64_t n, double scale, Tensor& y) {
  if (y.numel() == 0) return;
  DeviceScope scope(x);
  const int64_t rows = x.shape()[0], length = x.shape()[1];
  dispatch_float(x.dtype(), [&]<class C>(Type<C>) {
    const Tensor in = empty({rows, n}, dtype_of<C>(), x.device()),
                 out = empty({rows, n / 2 + 1, 2}, dtype_of<C>(), x.device());
    launch("rfft", rows * n, fit_kernel<C>, data_of(x), length, in.data<C>(), n, rows);
    if constexpr (std::is_same_v<C, double>)
      check_fft(cufftExecD2Z(plan(CUFFT_D2Z, n, rows, x.device().index), in.data<C>(),
                             reinterpret_cast<cufftDoubleComplex*>(out.data<C>())));
    else
      check_fft(cufftExecR2C(plan(CUFFT_R2C, n, rows, x.device().index), in.data<C>(),
                             reinterpret_cast<cufftComplex*>(out.data<C>())));
    launch("rfft", out.numel(), scale_kernel<C>, out.data<C>(), data_of(y), out.numel(), C(scale));
  });
}

void irfft(const Tensor& x, int64_t n, double scale, Tensor& y) {
  if (y.numel() == 0) return;
  DeviceScope scope(x);
  const int64_t rows = x.shape()[0], length = x.shape()[1];
  dispatch_float(x.dtype(), [&]<class C>(Type<C>) {
    const Tensor in = empty({rows, n / 2 + 1, 2}, dtype_of<C>(), x.device()),
                 out = empty({rows, n}, dtype_of<C>(), x.device());
    launch("irfft", in.numel(), fit_spectrum_kernel<C>, data_of(x), length, in.data<C>(), n, rows);
    if constexpr (std::is_same_v<C, double>)
      check_fft(cufftExecZ2D(plan(CUFFT_Z2D, n, rows, x.device().index),
                             reinterpret_cast<cufftDoubleComplex*>(in.data<C>()), out.data<C>()));
    else
      check_fft(cufftExecC2R(plan(CUFFT_C2R, n, rows, x.device().index), reinterpret_cast<cufftComplex*>(in.data<C>()),
                             out.data<C>()));
    launch("irfft", out.numel(), scale_kernel<C>, out.data<C>(), data_of(y), out.numel(), C(scale));
  });
}

void fft_conv(const Tensor& u, const Tensor& k, const Tensor& k_rev, const Tensor& d, Tensor& y) {
  DeviceScope scope(u);
  const int64_t b = u.shape()[0], h = u.shape()[1], n = u.shape()[2];
  dispatch_float(u.dtype(), [&]<class C>(Type<C>) {
    launch("fft_conv", y.numel(), long_conv_kernel<C>, data_of(u), data_of(k), data_of(k_rev), data_of(d), data_of(y),
           b, h, n, k.shape()[1], k_rev.defined() ? k_rev.shape()[1] : 0);
  });
}

void fft_conv_backward(const Tensor& u, const Tensor& k, const Tensor& k_rev, const Tensor& d, const Tensor& dy,
                       Tensor& du, Tensor& dk, Tensor& dk_rev, Tensor& dd) {
  DeviceScope scope(u);
  const int64_t b = u.shape()[0], h = u.shape()[1], n = u.shape()[2], taps = k.shape()[1],
                taps_rev = k_rev.defined() ? k_rev.shape()[1] : 0;
  dispatch_float(u.dtype(), [&]<class C>(Type<C>) {
    if (du.defined())
      launch("fft_conv", du.numel(), long_conv_du_kernel<C>, data_of(dy), data_of(k), data_of(k_rev), data_of(d),
             data_of(du), b, h, n, taps, taps_rev);
    if (dk.defined())
      launch_rows("fft_conv", h * taps, long_conv_dk_kernel<C>, data_of(u), data_of(dy), data_of(dk), b, h, n, taps,
                  false);
    if (dk_rev.defined())
      launch_rows("fft_conv", h * taps_rev, long_conv_dk_kernel<C>, data_of(u), data_of(dy), data_of(dk_rev), b, h, n,
                  taps_rev, true);
    if (dd.defined())
      launch_rows("fft_conv", h, long_conv_dk_kernel<C>, data_of(u), data_of(dy), data_of(dd), b, h, n, int64_t{1},
                  false);
  });
}

}  // namespace weft::cuda
