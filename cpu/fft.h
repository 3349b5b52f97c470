// Real Fourier transforms and long convolutions of rows of float or double, on raw pointers.
//
// Any length: factors 2, 3, 4, 5, 7, 11 and 13 directly, others by Bluestein's algorithm. Arithmetic is in the type
// given, twiddles are computed in double. The error of a float transform is about 1e-7 of its norm, of a double one
// 2e-16. Work is split over the thread pool by rows; the results do not depend on the number of threads. Plans are
// cached (a bounded number, least recently used dropped) and the cache is safe to use from many threads.
#pragma once

#include <cstdint>

namespace weft::cpu {

/// X[k] = scale · Σ_j x[j]·e^(-2πijk/n), k = 0 … n/2. Rows x + r · stride of `length` numbers are cropped or
/// zero-padded to n >= 1; out: [rows, n/2 + 1, 2], real and imaginary part last.
template <class T>
void rfft_rows(const T* x, int64_t rows, int64_t length, int64_t stride, int64_t n, double scale, T* out);

/// The inverse: x[j] = scale · Σ_k X[k]·e^(2πijk/n) over the full spectrum that the half one stands for. Rows spec + r
/// · stride of `length` complex numbers (stride counts real ones) are cropped or zero-padded to n/2 + 1. The imaginary
/// parts of X[0] and, for even n, X[n/2] are ignored. out: [rows, n].
template <class T>
void irfft_rows(const T* spec, int64_t rows, int64_t length, int64_t stride, int64_t n, double scale, T* out);

/// Long convolution of every row with its channel's taps:
///   y[b, h, t] = Σ_{0<=j<=t} k[h, j]·u[b, h, t - j] + Σ_{j>=0, t+1+j<n} k_rev[h, j]·u[b, h, t + 1 + j] + d[h]·u[b, h,
///   t]
/// u, y: [batch, channels, n]; k: [channels, taps]; k_rev: [channels, taps_rev]; d: [channels]. Taps that reach beyond
/// the row take no part. k, k_rev and d may be null (with taps = 0, taps_rev = 0).
template <class T>
struct LongConvolution {
  int64_t batch, channels, n;
  const T* u;
  const T* k;
  int64_t taps;
  const T* k_rev;
  int64_t taps_rev;
  const T* d;
};
template <class T>
void convolve_rows(const LongConvolution<T>& c, T* y);

/// Gradients from dy: [batch, channels, n]; du, dk, dk_rev, dd have the shapes of u, k, k_rev, d, and may each be null.
/// Taps without part get 0.
template <class T>
void convolve_rows_backward(const LongConvolution<T>& c, const T* dy, T* du, T* dk, T* dk_rev, T* dd);

}  // namespace weft::cpu
