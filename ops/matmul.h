// Products of matrices, and the precision they are computed in.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft {

/// NumPy's and PyTorch's matmul: [..., m, k] × [..., k, n] → [..., m, n], leading dimensions broadcast; a 1-D operand
/// is a row (left) or a column (right) whose dimension is dropped again. Accumulates in float32 (float64 for float64).
Tensor matmul(const Tensor& a, const Tensor& b);

/// c + matmul(a, b) as one product that starts from c instead of 0: PyTorch's addmm and baddbmm. a: [..., m, k], b:
/// [..., k, n], both at least matrices, leading dimensions broadcast; c broadcasts to the result [..., m, n]. All of
/// one dtype, which the result has; throws for others and for shapes that do not fit.
Tensor baddbmm(const Tensor& c, const Tensor& a, const Tensor& b);

/// Whether float32 products on CUDA may round their operands to TF32 (10 bits of mantissa), which the tensor cores
/// multiply several times faster; off at the start, as in PyTorch. For all threads.
void allow_tf32(bool on);
bool tf32_allowed();

/// Mixed precision for a scope, on this thread: matmul, baddbmm, the dense layers of linear.h and convolutions convert
/// float32 operands to dtype and return that dtype; parameters stay float32 and get float32 gradients. Norms, softmax
/// and losses keep accumulating in float32. What requires a gradient is converted once in a forward pass however often
/// it is used, a parameter without recording once in a scope (the outermost one), and again only if an operation has
/// changed it: writes through data() are not seen within a scope.
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
  /// Forgets this thread's converted parameters: they belong to one side of a graph capture's start or end, or to one
  /// stream. expect: whether the next scope may convert all that the last one asked for at once.
  static void forget(bool expect = true);

 private:
  DType before_;
  bool enabled_before_;
};

}  // namespace weft
