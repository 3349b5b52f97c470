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

/// x summed down to a shape that broadcasts to x's.
Tensor sum_to(const Tensor& x, const Shape& shape);

}  // namespace weft
