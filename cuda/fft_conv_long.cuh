// The long convolution of rows beyond a Tile, and of float64: the same polynomials modulo z^N + i, with cuFFT's complex
// transform between kernels that rotate, multiply and crop.
#pragma once

#include <weft/cuda/fft_conv.cuh>

namespace weft::cuda::fft {

/// y, or whichever of du, dk, dk_rev, dd and dgate have data. C: float or double. spectra and sums are not used.
template <class C>
void long_conv(const ConvArgs& args);
template <class C>
void long_conv_backward(const ConvArgs& args);

}  // namespace weft::cuda::fft
