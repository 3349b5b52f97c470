// What the convolution kernels of every device need to know beyond the shapes.
#pragma once

#include <cstdint>

namespace weft {

/// x: [b, groups·ci, h, w], weight: [groups·co, ci, kh, kw], y: [b, groups·co, oh, ow]. Output (p, q) reads input
/// (p·stride[0] + i·dilation[0] - before[0], q·stride[1] + j·dilation[1] - before[1]), which is 0 outside of x. How
/// much padding there is after the input shows in the shape of y.
struct ConvGeometry {
  int64_t stride[2] = {1, 1};
  int64_t before[2] = {0, 0};
  int64_t dilation[2] = {1, 1};
  int64_t groups = 1;
};

/// linear: between the two nearest inputs, positions as in PyTorch; nearest: input floor(j·n/m) for output j.
enum class InterpolateMode { linear, nearest };

}  // namespace weft
