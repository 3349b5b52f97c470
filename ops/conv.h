// Convolutions (cross-correlations, as everywhere in deep learning) and one-dimensional interpolation. Names and
// meaning are PyTorch's. Sums accumulate in float32, in float64 for float64.
#pragma once

#include <weft/ops/conv_geometry.h>
#include <weft/tensor/tensor.h>

#include <array>

namespace weft {

struct Conv1dOptions {
  int64_t stride = 1;
  int64_t padding = 0;  ///< zeros on either side
  int64_t dilation = 1;
  int64_t groups = 1;   ///< groups = channels is a depthwise convolution
  bool causal = false;  ///< zeros before only, (taps - 1)·dilation of them: output t sees inputs up to t·stride;
                        ///< padding must be 0
};

/// y[b, o, t] = bias[o] + Σ_{c, j} weight[o, c, j]·x[b, c, t·stride + j·dilation - padding], the channels c being those
/// of o's group. x: [b, channels, n] or [channels, n]; weight: [out, channels / groups, taps]; bias: [out] or
/// undefined. y: [b, out, (n + 2·padding - dilation·(taps - 1) - 1) / stride + 1].
Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, const Conv1dOptions& options = {});

struct Conv2dOptions {
  std::array<int64_t, 2> stride = {1, 1};
  std::array<int64_t, 2> padding = {0, 0};
  std::array<int64_t, 2> dilation = {1, 1};
  int64_t groups = 1;
};

/// The same in two dimensions. x: [b, channels, h, w] or [channels, h, w]; weight: [out, channels / groups, kh, kw].
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, const Conv2dOptions& options = {});

/// x: [..., n] resampled to [..., size], as F.interpolate on [b, c, n]. linear: output j sits at (j + 0.5)·n/size -
/// 0.5, or at j·(n - 1)/(size - 1) with align_corners (the ends stay where they are). nearest takes input
/// floor(j·n/size), in integers (PyTorch rounds the ratio to float32 first and is now and then one off), and no
/// align_corners.
Tensor interpolate1d(const Tensor& x, int64_t size, InterpolateMode mode = InterpolateMode::linear,
                     bool align_corners = false);

}  // namespace weft
