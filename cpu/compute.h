// For kernels that work in float or double on contiguous memory, whatever the dtype in storage.
#pragma once

#include <weft/cpu/strided.h>

namespace weft::cpu {

/// x in the type of the arithmetic, contiguous; itself where it is so already. Undefined stays undefined.
template <class T>
Tensor compute_copy(const Tensor& x) {
  if (!x.defined() || (x.dtype() == dtype_of<T>() && x.is_contiguous())) return x;
  Tensor y = empty_like(x, dtype_of<T>());
  map<T, T>([](T v) { return v; }, x, y);
  return y;
}

/// Memory to compute y in: y itself where the types agree.
template <class T>
Tensor compute_output(const Tensor& y) {
  return !y.defined() || y.dtype() == dtype_of<T>() ? y : empty_like(y, dtype_of<T>());
}

/// Brings what was computed in compute_output(y) to y.
template <class T>
void write_back(const Tensor& result, Tensor& y) {
  if (y.defined() && !y.same_as(result)) map<T, T>([](T v) { return v; }, result, y);
}

/// Calls f(Type<T>{}), T the type of the arithmetic on floating d.
template <class F>
void in_float(DType d, F&& f) {
  if (d == float64)
    f(Type<double>{});
  else
    f(Type<float>{});
}

}  // namespace weft::cpu
