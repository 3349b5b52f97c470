// Real transforms by cuFFT. The factor goes with whatever kernel crops, pads or converts the input; a transform that
// needs none of that reads x and writes y itself.
#include <weft/ops/create.h>
#include <weft/cuda/fft_plan.cuh>

namespace weft::cuda {

namespace {

// y: [rows, n] ← x: [rows, length], cropped or padded with 0, times scale
template <class C>
__global__ void fit_kernel(Data x, int64_t length, C* y, int64_t n, int64_t rows, C scale) {
  WEFT_GRID_LOOP(i, rows * n) {
    const int64_t row = i / n, j = i - row * n;
    y[i] = j < length ? scale * x.load<C>(row * length + j) : C(0);
  }
}

// y: [rows, n/2 + 1, 2] ← x: [rows, length, 2], times scale, with the imaginary parts that take no part set to 0
template <class C>
__global__ void fit_spectrum_kernel(Data x, int64_t length, C* y, int64_t n, int64_t rows, C scale) {
  const int64_t pitch = 2 * (n / 2 + 1);
  WEFT_GRID_LOOP(i, rows * pitch) {
    const int64_t row = i / pitch, j = i - row * pitch, k = j / 2;
    const bool dead = j % 2 == 1 && (k == 0 || 2 * k == n);
    y[i] = k < length && !dead ? scale * x.load<C>(row * length * 2 + j) : C(0);
  }
}

template <class C>
__global__ void convert_kernel(const C* x, Data y, int64_t n) {
  WEFT_GRID_LOOP(i, n) { y.store(i, x[i]); }
}

/// cuFFT can read or write x where it is: of type C, on a complex number's boundary.
template <class C>
bool direct(const Tensor& x) {
  return x.dtype() == dtype_of<C>() && reinterpret_cast<uintptr_t>(x.raw_data()) % (2 * sizeof(C)) == 0;
}

// f(tensor to write, of type C), then what it holds to y if that is another
template <class C, class F>
void into(const char* op, Tensor& y, F f) {
  if (direct<C>(y)) return f(y);
  const Tensor out = empty(y.shape(), dtype_of<C>(), y.device());
  f(out);
  launch(op, out.numel(), convert_kernel<C>, out.data<C>(), data_of(y), out.numel());
}

}  // namespace

void rfft(const Tensor& x, int64_t n, double scale, Tensor& y) {
  if (y.numel() == 0) return;
  DeviceScope scope(x);
  const int64_t rows = x.size(0), length = x.size(1);
  dispatch_float(x.dtype(), [&]<class C>(Type<C>) {
    Tensor in = x;
    const bool cropped_evenly = length == n || (length > n && length % 2 == 0);  // cuFFT may read pairs
    if (!direct<C>(x) || !cropped_evenly || scale != 1) {
      in = empty({rows, n}, dtype_of<C>(), x.device());
      launch("rfft", rows * n, fit_kernel<C>, data_of(x), length, in.data<C>(), n, rows, C(scale));
    }
    into<C>("rfft", y, [&](const Tensor& out) {
      fft::transform({std::is_same_v<C, double> ? CUFFT_D2Z : CUFFT_R2C, n, rows, in.size(1), n / 2 + 1}, in.raw_data(),
                     out.raw_data());
    });
  });
}

void irfft(const Tensor& x, int64_t n, double scale, Tensor& y) {
  if (y.numel() == 0) return;
  DeviceScope scope(x);
  const int64_t rows = x.size(0), length = x.size(1), bins = n / 2 + 1;
  dispatch_float(x.dtype(), [&]<class C>(Type<C>) {
    const Tensor in = empty({rows, bins, 2}, dtype_of<C>(), x.device());  // which cuFFT overwrites
    launch("irfft", in.numel(), fit_spectrum_kernel<C>, data_of(x), length, in.data<C>(), n, rows, C(scale));
    into<C>("irfft", y, [&](const Tensor& out) {
      fft::transform({std::is_same_v<C, double> ? CUFFT_Z2D : CUFFT_C2R, n, rows, bins, n}, in.raw_data(),
                     out.raw_data());
    });
  });
}

}  // namespace weft::cuda
