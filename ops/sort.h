// Order: extremes with their positions, sorting, searching, and drawing by weight. Values carry gradients to the
// elements they came from. NaN counts as larger than everything; equal elements stay in their order, so that every
// result is determined. Names and argument order are PyTorch's.
#pragma once

#include <weft/ops/random.h>
#include <weft/ops/scan.h>
#include <weft/tensor/tensor.h>

#include <optional>

namespace weft {

/// Position of the largest (smallest) element along dim, the first of equal ones; without dim, in the flat tensor.
/// int64. non_differentiable
Tensor argmax(const Tensor& x, std::optional<int64_t> dim = {}, bool keep = false);
Tensor argmin(const Tensor& x, std::optional<int64_t> dim = {}, bool keep = false);  ///< non_differentiable
/// auto [values, indices] = max(x, -1): the element that argmax finds; it alone gets the gradient (see amax).
ValuesIndices max(const Tensor& x, int64_t dim, bool keep = false);
ValuesIndices min(const Tensor& x, int64_t dim, bool keep = false);

/// The k largest (smallest) elements along dim, in falling (rising) order, or in no particular one unless sorted.
ValuesIndices topk(const Tensor& x, int64_t k, int64_t dim = -1, bool largest = true, bool sorted = true);
/// The k-th smallest element along dim, k from 1.
ValuesIndices kthvalue(const Tensor& x, int64_t k, int64_t dim = -1, bool keep = false);
/// All elements along dim in rising (descending: falling) order; stable in both.
ValuesIndices sort(const Tensor& x, int64_t dim = -1, bool descending = false);
Tensor argsort(const Tensor& x, int64_t dim = -1, bool descending = false);  ///< non_differentiable

/// For each value the first place in sequence (rising along its last dimension) where it could be inserted, or the last
/// with right: int64, values' shape. sequence is 1-D, or has values' sizes in all dimensions but the last.
/// non_differentiable
Tensor searchsorted(const Tensor& sequence, const Tensor& values, bool right = false);

struct Unique {
  Tensor values;   ///< [n], rising; the gradient goes to the first of the equal elements
  Tensor inverse;  ///< int64, x's shape: x = values[inverse]; non_differentiable
  Tensor counts;   ///< int64 [n]; non_differentiable
};
/// The different elements of x. Every NaN is one of its own.
Unique unique(const Tensor& x);

// --- drawing: equal for the same generator state on every device -----------------------------------------------------
/// num_samples positions from each row of weights [n] or [rows, n] (not negative, need not add up to 1), each with
/// probability in proportion to its weight; without replacement no position twice in a row. int64 [num_samples] or
/// [rows, num_samples]. non_differentiable
Tensor multinomial(const Tensor& weights, int64_t num_samples, bool replacement = false,
                   Generator& generator = default_generator());
/// 0 ... n-1 in random order, int64. non_differentiable
Tensor randperm(int64_t n, Generator& generator = default_generator());

}  // namespace weft
