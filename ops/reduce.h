// Reductions over one, several or all dimensions. Sums accumulate in float32 (float64 for float64, int64 for integers)
// and in an order that does not depend on the number of threads.
#pragma once

#include <weft/tensor/tensor.h>

#include <optional>

namespace weft {

/// Which dimensions to reduce: a number, a list, or (empty) all of them.
class Dims {
 public:
  Dims() = default;
  Dims(int64_t dim) : dims_{dim} {}
  Dims(int dim) : dims_{dim} {}
  Dims(std::initializer_list<int64_t> dims) : dims_(dims) {}
  Dims(const Shape& dims) : dims_(dims) {}
  /// For each of ndim dimensions whether it is reduced; throws on one out of range or named twice.
  std::vector<bool> mask(int64_t ndim, const char* op) const;

 private:
  Shape dims_;
};

/// Reduced dimensions stay with size 1.
inline constexpr bool keepdim = true;

/// Integers and bool sum to int64.
Tensor sum(const Tensor& x, const Dims& dims = {}, bool keep = false);
Tensor mean(const Tensor& x, const Dims& dims = {}, bool keep = false);
Tensor prod(const Tensor& x, const Dims& dims = {}, bool keep = false);
/// Largest (smallest) element; equal ones share the gradient evenly. NaN wins. An empty range is an error.
Tensor amax(const Tensor& x, const Dims& dims = {}, bool keep = false);
Tensor amin(const Tensor& x, const Dims& dims = {}, bool keep = false);
Tensor any(const Tensor& x, const Dims& dims = {}, bool keep = false);  ///< boolean; non_differentiable
Tensor all(const Tensor& x, const Dims& dims = {}, bool keep = false);  ///< boolean; non_differentiable

Tensor count_nonzero(const Tensor& x, const Dims& dims = {}, bool keep = false);  ///< int64; non_differentiable
/// Σ (x - mean)² / (n - correction) over n elements; NaN where n is not more than correction.
Tensor var(const Tensor& x, const Dims& dims = {}, double correction = 1, bool keep = false);
/// The root of var; its gradient is 0 where it is 0.
Tensor std(const Tensor& x, const Dims& dims = {}, double correction = 1, bool keep = false);
/// (Σ |x|^p)^(1/p): p = 1, 2, infinity (largest |x|), -infinity (smallest), 0 (how many are not 0), or any other
/// number. Where it is 0 its gradient is 0.
Tensor norm(const Tensor& x, double p = 2, const Dims& dims = {}, bool keep = false);
/// log Σ exp(x), without overflow; -inf, with no gradient, where all are -inf.
Tensor logsumexp(const Tensor& x, const Dims& dims = {}, bool keep = false);

/// x summed down to a shape that broadcasts to x's.
Tensor sum_to(const Tensor& x, const Shape& shape);

}  // namespace weft
