// Rotary position embedding: pairs of features turn by an angle that depends on the position.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft {

/// Which features make pair k of r / 2 pairs.
enum class RotaryPairs : uint8_t {
  neighbours,  ///< 2k and 2k + 1, as in the paper, rotary-embedding-torch and x-transformers
  halves       ///< k and k + r / 2, as in GPT-NeoX and Llama
};

struct RotaryOptions {
  RotaryPairs pairs = RotaryPairs::neighbours;
  int64_t seq_dim = -2;  ///< the dimension of x that counts positions, negative
  Tensor scale = {};     ///< of the angles' shape: a factor on both features of a pair (xPos, arXiv:2212.10554)
};

/// x with its first r features turned: (a, b) becomes scale · (a·cos - b·sin, b·cos + a·sin). x: [..., n, ..., d] with
/// n at seq_dim; angles in radians: [n, r / 2], or [b, n, r / 2] for the b of x's first dimension. The d - r features
/// that follow stay as they are. Computed in float32 (float64 for float64 x); the result has x's dtype. Gradients flow
/// to x, angles and scale. Source: Su et al., arXiv:2104.09864.
Tensor rotary(const Tensor& x, const Tensor& angles, const RotaryOptions& options = {});

}  // namespace weft
