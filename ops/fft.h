// Real Fourier transforms and the long convolutions built on them.
//
// A complex tensor is a real one with a last dimension of 2: (real part, imaginary part). Integers become float32;
// bfloat16 and float16 are transformed in float32 and rounded once.
#pragma once

#include <weft/tensor/tensor.h>

#include <optional>

namespace weft {

/// Where the factor 1/n goes, as in torch.fft: on the inverse, as 1/√n on both, or on the forward transform.
enum class FftNorm { backward, ortho, forward };

/// X[k] = Σ_j x[j]·e^(-2πijk/n) for k = 0 … n/2, along dim. x is cropped or zero-padded to n >= 1, by default its own
/// length. x: [..., length, ...] -> [..., n/2 + 1, ..., 2]: view_as_real(torch.fft.rfft(x, n, dim, norm)).
Tensor rfft(const Tensor& x, std::optional<int64_t> n = {}, int64_t dim = -1, FftNorm norm = FftNorm::backward);

/// The inverse of rfft: n real numbers from the half spectrum [..., length, ..., 2], which is cropped or zero-padded to
/// n/2 + 1; n defaults to 2·(length - 1). dim counts without the last dimension of 2. The imaginary parts at k = 0 and,
/// for even n, k = n/2 take no part, as in torch.fft.irfft.
Tensor irfft(const Tensor& spectrum, std::optional<int64_t> n = {}, int64_t dim = -1, FftNorm norm = FftNorm::backward);

/// Long convolution of each channel with taps of its own, through FFTs:
///   y[..., h, t] = Σ_{0<=j<=t} k[h, j]·u[..., h, t - j] + D[h]·u[..., h, t]    (causal)
///                + Σ_{j>=0} k_rev[h, j]·u[..., h, t + 1 + j]                   (with k_rev: both sides)
/// and all of it times gate[..., h, t] where there is a gate.
/// u, y, gate: [..., channels, n]; k: [channels, taps]; D: [channels]; k_rev: [channels, taps]. D, k_rev and gate may
/// be undefined. Kernels may be shorter than the input, as long, or longer: taps that reach beyond it take no part.
/// bfloat16 and float16 are computed in float32 and rounded once, after the gate.
/// This is the convolution of SGConv (Li et al., arXiv:2210.09298) and H3 (arXiv:2212.14052). Of SGConv's bidirectional
/// kernel, k is the first half and k_rev the second; H3's reversed kernel starts at lag 0, so add its first tap to k's
/// first. H3 multiplies the output by a projection of its input: the gate.
/// Errors: shapes that do not fit, dtypes or devices that differ.
Tensor fft_conv(const Tensor& u, const Tensor& k, const Tensor& D = {}, const Tensor& k_rev = {},
                const Tensor& gate = {});

}  // namespace weft
