// New tensors.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft {

/// Optional arguments of the functions below: zeros({2, 3}, {.dtype = float64}).
struct TensorOptions {
  DType dtype = float32;
  Device device = default_device();
  bool requires_grad = false;
};

/// Every element 0, 1 or value.
Tensor zeros(const Shape& shape, TensorOptions options = {});
Tensor ones(const Shape& shape, TensorOptions options = {});
Tensor full(const Shape& shape, Scalar value, TensorOptions options = {});
/// Of x's shape, dtype and device; its values play no part: non_differentiable
Tensor zeros_like(const Tensor& x);
Tensor ones_like(const Tensor& x);                ///< non_differentiable
Tensor full_like(const Tensor& x, Scalar value);  ///< non_differentiable
/// start, start + step, ... below end (above, for a negative step); int64 where dtype is not given and all are
/// integers.
Tensor arange(int64_t end);
Tensor arange(int64_t start, int64_t end, int64_t step = 1);
Tensor arange(double start, double end, double step, TensorOptions options);
/// steps values from start to end, both included.
Tensor linspace(double start, double end, int64_t steps, TensorOptions options = {});
/// [n, m] with ones on the diagonal, zeros elsewhere; m is n unless given.
Tensor eye(int64_t n, int64_t m = -1, TensorOptions options = {});

/// Values in row-major order; shape defaults to [values.size()].
Tensor tensor(const std::vector<float>& values, const Shape& shape, TensorOptions options = {});
Tensor tensor(const std::vector<double>& values, const Shape& shape, TensorOptions options = {.dtype = float64});
Tensor tensor(const std::vector<int64_t>& values, const Shape& shape, TensorOptions options = {.dtype = int64});
Tensor tensor(const std::vector<bool>& values, const Shape& shape, TensorOptions options = {.dtype = boolean});
template <class T>
Tensor tensor(const std::vector<T>& values) {
  return tensor(values, {static_cast<int64_t>(values.size())});
}
inline Tensor tensor(std::initializer_list<float> values) { return tensor(std::vector<float>(values)); }
/// A 0-dim tensor.
Tensor scalar(Scalar value, TensorOptions options = {});

}  // namespace weft
