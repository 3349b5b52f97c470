// Takes a sample of an op through everything the suite asks of one: values in every dtype, memory layouts, thread
// counts, first and second derivatives. The test suite and weft_certify run the same walk.
#pragma once

#include "support/sample.h"

#include <string>
#include <vector>

namespace weft::test {

enum class Layout { contiguous, transposed, strided, offset, mixed };
const char* name(Layout layout);

/// One thing that was measured about a sample.
struct Measured {
  DType dtype = float64;
  Layout layout = Layout::contiguous;
  int order = 0;  ///< 0: values, 1: gradients, 2: second derivatives
  /// Relative norm error; for gradcheck and gradgradcheck (float64, contiguous) the worst error as a share of its
  /// tolerance.
  double error = 0;
  std::string problem;  ///< empty when it passed
};

/// Relative norm error that a dtype may have: DESIGN's numbers.
double tolerance(DType dtype);

/// ‖a - b‖ / max(‖b‖, least) over all elements (‖a‖ where that is 0); equal infinities count as equal, NaN gives
/// infinity.
double relative_error(const Tensor& a, const Tensor& b, double least = 0);

/// Everything measured about s on a device. Never throws for a fault of the op: the fault is a problem.
std::vector<Measured> walk(const Sample& s, Device device);

/// x with the same values in another layout; the memory around them is filled with NaN (integers: with 100).
Tensor with_layout(const Tensor& x, Layout layout);

/// The device named by the environment variable DEVICE (cpu unless set).
Device test_device();

/// A function that a public header declares.
struct PublicOp {
  std::string name, header;
  bool declared_non_differentiable = false;
};
/// Every op declared in ops/*.h: free functions at namespace weft that return Tensor, Tensors or a tuple or pair of
/// tensors. Operators, in-place functions (name_) and what a header keeps for kernels (kernel.h, *_op.h, *_fn.h) are
/// not ops of their own.
std::vector<PublicOp> public_ops(const std::string& source_dir);

}  // namespace weft::test
