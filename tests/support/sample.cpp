#include "support/sample.h"

#include <cmath>

namespace weft::test {

Tensor make(const Shape& shape, const std::function<double(int64_t)>& f) {
  std::vector<double> v(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < v.size(); ++i) v[i] = f(static_cast<int64_t>(i));
  return tensor(v, shape, {.dtype = float64, .device = Device::cpu()});
}

Tensor make_at(const Shape& shape, const std::function<double(const Index&)>& f) {
  Index index(static_cast<size_t>(shape.size()), 0);
  return make(shape, [&](int64_t i) {
    for (int64_t d = shape.size() - 1; d >= 0; i /= shape[d--]) index[static_cast<size_t>(d)] = i % shape[d];
    return f(index);
  });
}

Tensor values(const Shape& shape, uint64_t seed, double low, double high) {
  Generator g(seed * 7919 + 17);
  Tensor x = empty(shape, float64, Device::cpu());
  uniform_(x, low, high, g);
  return x;
}

Tensor map1(const Tensor& x, const std::function<double(double)>& f) {
  const auto v = x.to_vector<double>();
  return make(x.shape(), [&](int64_t i) { return f(v[static_cast<size_t>(i)]); });
}

double at(const Tensor& x, const std::vector<int64_t>& index) {
  int64_t offset = 0;
  const int64_t lead = static_cast<int64_t>(index.size()) - x.dim();
  for (int64_t d = 0; d < x.dim(); ++d) {
    if (x.shape()[d] != 1) offset += index[static_cast<size_t>(lead + d)] * x.strides()[d];
  }
  if (!x.device().is_cpu()) return as_strided_raw(x, {}, {}, x.impl().offset + offset).item();
  return dispatch_all(x.dtype(), [&]<class T>(Type<T>) { return static_cast<double>(x.data<T>()[offset]); });
}

Tensor map2(const Tensor& a, const Tensor& b, const std::function<double(double, double)>& f) {
  const Shape shape = broadcast_shapes(a.shape(), b.shape(), "map2");
  std::vector<int64_t> index(static_cast<size_t>(shape.size()), 0);
  return make(shape, [&](int64_t i) {
    for (int64_t d = shape.size() - 1; d >= 0; --d) {
      index[static_cast<size_t>(d)] = i % shape[d];
      i /= shape[d];
    }
    return f(at(a, index), at(b, index));
  });
}

}  // namespace weft::test
