#include <weft/ops/copy.h>
#include <weft/ops/create.h>

#include <cmath>

namespace weft {

Tensor full(const Shape& shape, Scalar value, TensorOptions o) {
  Tensor x = empty(shape, o.dtype, o.device);
  fill_into(x, value);
  return x.requires_grad_(o.requires_grad);
}
Tensor zeros(const Shape& shape, TensorOptions o) { return full(shape, 0, o); }
Tensor ones(const Shape& shape, TensorOptions o) { return full(shape, 1, o); }
Tensor full_like(const Tensor& x, Scalar value) {
  return full(x.shape(), value, {.dtype = x.dtype(), .device = x.device()});
}
Tensor zeros_like(const Tensor& x) { return full_like(x, 0); }
Tensor ones_like(const Tensor& x) { return full_like(x, 1); }
Tensor scalar(Scalar value, TensorOptions o) { return full({}, value, o); }

namespace {

// Builds on the host in T, then converts and moves.
template <class T, class F>
Tensor generate(const Shape& shape, TensorOptions o, F&& value) {
  Tensor x = empty(shape, dtype_of<T>(), Device::cpu());
  T* p = x.data<T>();
  const int64_t n = x.numel();
  for (int64_t i = 0; i < n; ++i) p[i] = value(i);
  return x.to(o.dtype).to(o.device).requires_grad_(o.requires_grad);
}

template <class T, class V>
Tensor from_values(const V& values, const Shape& shape, TensorOptions o) {
  check(shape.numel() == static_cast<int64_t>(values.size()), "tensor: ", values.size(), " values for shape ", shape);
  return generate<T>(shape, o, [&](int64_t i) { return static_cast<T>(values[static_cast<size_t>(i)]); });
}

}  // namespace

Tensor tensor(const std::vector<float>& v, const Shape& s, TensorOptions o) { return from_values<float>(v, s, o); }
Tensor tensor(const std::vector<double>& v, const Shape& s, TensorOptions o) { return from_values<double>(v, s, o); }
Tensor tensor(const std::vector<int64_t>& v, const Shape& s, TensorOptions o) { return from_values<int64_t>(v, s, o); }
Tensor tensor(const std::vector<bool>& v, const Shape& s, TensorOptions o) { return from_values<bool>(v, s, o); }

Tensor arange(int64_t end) { return arange(0, end); }

Tensor arange(int64_t start, int64_t end, int64_t step) {
  check(step != 0, "arange: step must not be 0");
  const int64_t n = step > 0 ? (end - start + step - 1) / step : (start - end - step - 1) / -step;
  return generate<int64_t>({std::max<int64_t>(n, 0)}, {.dtype = int64}, [&](int64_t i) { return start + i * step; });
}

Tensor arange(double start, double end, double step, TensorOptions o) {
  check(step != 0 && std::isfinite((end - start) / step), "arange: step must be finite and not 0");
  const double count = std::ceil((end - start) / step);
  check(count < 0x1p58, "arange: from ", start, " to ", end, " by ", step, " are too many values");
  const auto n = static_cast<int64_t>(std::max(count, 0.0));
  return generate<double>({n}, o, [&](int64_t i) { return start + static_cast<double>(i) * step; });
}

Tensor linspace(double start, double end, int64_t steps, TensorOptions o) {
  check(steps >= 0, "linspace: steps must not be negative, got ", steps);
  const double step = steps > 1 ? (end - start) / static_cast<double>(steps - 1) : 0;
  return generate<double>({steps}, o, [&](int64_t i) {  // from both ends, so that both are exact
    return i < (steps + 1) / 2 ? start + step * static_cast<double>(i)
                               : end - step * static_cast<double>(steps - 1 - i);
  });
}

Tensor eye(int64_t n, int64_t m, TensorOptions o) {
  if (m < 0) m = n;
  check(n >= 0, "eye: n must not be negative, got ", n);
  return generate<float>({n, m}, o, [&](int64_t i) { return i / m == i % m ? 1.0f : 0.0f; });
}

}  // namespace weft
