// Checks of what a sequence function may look at: the future, padding, other rows of the batch. They read gradients, so
// they see every differentiable path, and values, so they see the others (a hard choice, a detached part).
//
//   check_causal([&](const Tensor& x) { return model(x); }, randn({2, 16, 8}));
#pragma once

#include <weft/autograd/gradcheck.h>

#include <utility>

namespace weft {

/// What a structure check found; true when nothing was wrong.
struct StructureResult : CheckResult {
  /// (output, input) positions that must not touch but do: times for check_causal and check_padding_invariance, batch
  /// rows for check_batch_independence; at most 16.
  std::vector<std::pair<int64_t, int64_t>> offending = {};
};

struct StructureOptions {
  bool raise_exception = true;
  /// A gradient, or a change of a value, counts when beyond tolerance × the largest gradient (value). 0: exactly none.
  /// Functions made of Fourier transforms spread rounding errors over the whole sequence and need, say, 1e-12.
  double tolerance = 0;
  /// For results of calls with other sizes (longer padding, a batch of one), where kernels may add up in another order:
  /// relative norm error. Negative: 1e-9 for float64, 2e-5 for float32, 2e-2 for the half types.
  double size_tolerance = -1;
  /// How many masked positions check_padding_invariance adds.
  int64_t extra_padding = 3;
  /// Also compares values, not only gradients.
  bool values = true;
};

using SequenceFn = std::function<Tensor(const Tensor& x)>;
using MaskedFn = std::function<Tensor(const Tensor& x, const Tensor& mask)>;

/// f: [b, n, d] → [b, n, ...]. No output at time t depends on the input at a later time. x: floating; f must repeat
/// itself (dropout off).
StructureResult check_causal(const SequenceFn& f, const Tensor& x, const StructureOptions& options = {});

/// f: x [b, n, d], mask [b, n] (boolean, true: a real token) → [b, n, ...]. Outputs at real tokens do not depend on
/// masked ones, whatever stands there and however many follow; real tokens' outputs are finite.
StructureResult check_padding_invariance(const MaskedFn& f, const Tensor& x, const Tensor& mask,
                                         const StructureOptions& options = {});

/// f: [b, ...] → [b, ...]. No row of the output depends on another row of the input. b must be 2 or more.
StructureResult check_batch_independence(const SequenceFn& f, const Tensor& x, const StructureOptions& options = {});

}  // namespace weft
