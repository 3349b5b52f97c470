// Which statistics a row is normalised by, shared by the CPU and CUDA kernels.
#pragma once

#include <cstdint>

namespace weft {

/// y = (x - mean) · r · (weight + offset) + bias over a row of n elements, with mean 0 but for `layer`, and r by kind.
/// Where the norm is below eps in `scale` and `l2`, r = 1 / eps is a constant: the gradient knows.
enum class NormKind : uint8_t {
  layer,  ///< r = 1 / sqrt(variance + eps)
  rms,    ///< r = 1 / sqrt(mean x² + eps)
  scale,  ///< r = 1 / max(sqrt(mean x²), eps)
  l2      ///< r = 1 / max(‖x‖, eps)
};

/// What a norm's kernels are told, forward and backward.
struct NormArgs {
  NormKind kind;
  double eps;
  double offset = 0;  ///< added to every weight, where there are weights
};

}  // namespace weft
