// What fft.cpp needs from one instruction set: transforms of whole rows (see fft_kernels.inc).
#pragma once

#include <weft/cpu/fft_plan.h>

#include <cstdint>

namespace weft::cpu::fft {

// Rows of real numbers and rows of half spectra, the input zero-padded or cropped to what the plan's n asks for.
template <class T>
struct RealJob {
  const T* in;     // row r at in + r · in_stride
  int64_t length;  // real numbers (rfft) or complex numbers (irfft) in an input row
  int64_t in_stride;
  T* out;  // [rows, n/2 + 1, 2] (rfft) or [rows, n] (irfft)
  T scale;
};

// The convolution of convolve() in fft.h and its backward; see there for the shapes.
template <class T>
struct ConvolveJob {
  const T *u, *k, *k_rev, *d, *dy;
  T *y, *du, *dk, *dk_rev, *dd;
  int64_t batch, channels, n, taps, taps_rev;
};

template <class T>
struct Kernels {
  const char* name;
  int64_t width;  // numbers in a vector register
  // rows [begin, end); begin is a multiple of group(plan)
  void (*rfft)(const RealPlan<T>&, const RealJob<T>&, int64_t begin, int64_t end);
  void (*irfft)(const RealPlan<T>&, const RealJob<T>&, int64_t begin, int64_t end);
  // channels [begin, end), every batch
  void (*convolve)(const RowPlan<T>&, const ConvolveJob<T>&, int64_t begin, int64_t end);
  void (*convolve_backward)(const RowPlan<T>&, const ConvolveJob<T>&, int64_t begin, int64_t end);
  void (*fill_filter)(ChirpPlan<T>&);
};

// Rows that one step of rfft or irfft takes together.
template <class T>
int64_t group(const RealPlan<T>& plan, int64_t width) {
  return (plan.kind == RealPlan<T>::across_rows ? width : 1) * (plan.n % 2 ? 2 : 1);
}

// Kernel sets this machine can run, best first (for tests); returns their number, at most 3.
template <class T>
int kernel_sets(const Kernels<T>* sets[3]);

}  // namespace weft::cpu::fft
