// Products of matrices.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft {

/// NumPy's and PyTorch's matmul: [..., m, k] × [..., k, n] → [..., m, n], leading dimensions broadcast; a 1-D operand
/// is a row (left) or a column (right) whose dimension is dropped again. Accumulates in float32 (float64 for float64).
Tensor matmul(const Tensor& a, const Tensor& b);

enum class Activation : uint8_t { none, relu, gelu, gelu_tanh, silu };

/// activation(x · weightᵀ + bias). x: [..., in], weight: [out, in], bias: [out] or undefined → [..., out].
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, Activation activation = Activation::none);

/// Mixed precision for a scope, on this thread: matmul, linear and convolutions convert float32 operands to dtype and
/// return that dtype; parameters stay float32 and get float32 gradients. Norms, softmax and losses keep accumulating in
/// float32.
class Autocast {
 public:
  explicit Autocast(DType dtype = bfloat16, bool enabled = true);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;
  /// x in the scope's dtype, if there is a scope and x is float32; else x.
  static Tensor apply(const Tensor& x);
  static bool active();  ///< whether a scope is on, on this thread
  static DType dtype();  ///< the dtype of the innermost scope

 private:
  DType before_;
  bool enabled_before_;
};

}  // namespace weft
