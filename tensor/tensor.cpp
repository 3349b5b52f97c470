#include <weft/tensor/tensor.h>

namespace weft {

Tensor empty(const Shape& shape, DType dtype, Device device) {
  for (int64_t d : shape) check(d >= 0, "empty: negative size in ", shape);
  check(shape.numel() < (int64_t{1} << 58), "empty: shape ", shape, " has too many elements");
  const auto bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
  return Tensor(std::make_shared<TensorImpl>(std::make_shared<Storage>(device, bytes), 0, shape,
                                             shape.contiguous_strides(), dtype));
}

Tensor empty_like(const Tensor& x) { return empty(x.shape(), x.dtype(), x.device()); }
Tensor empty_like(const Tensor& x, DType dtype) { return empty(x.shape(), dtype, x.device()); }

Tensor as_strided_raw(const Tensor& x, const Shape& shape, const Shape& strides, int64_t offset) {
  return Tensor(std::make_shared<TensorImpl>(x.impl().storage, offset, shape, strides, x.dtype()));
}

bool Tensor::is_contiguous() const {
  const Shape &sh = shape(), &st = strides();
  int64_t expected = 1;
  for (int64_t i = sh.size() - 1; i >= 0; --i) {
    if (sh[i] == 0) return true;
    if (sh[i] != 1 && st[i] != expected) return false;
    expected *= sh[i];
  }
  return true;
}

namespace {
template <class R>
R item_as(const Tensor& x) {
  check(x.numel() == 1, "item: expected one element, got shape ", x.shape());
  const Tensor host = x.detach().cpu();
  return dispatch_all(x.dtype(), [&]<class T>(Type<T>) { return static_cast<R>(*host.data<T>()); });
}
}  // namespace

double Tensor::item_double() const { return item_as<double>(*this); }
int64_t Tensor::item_int() const { return item_as<int64_t>(*this); }

template <class T>
std::vector<T> Tensor::to_vector() const {
  const Tensor host = detach().cpu().to(dtype_of<T>()).contiguous();
  const T* p = host.data<T>();
  return std::vector<T>(p, p + host.numel());
}
template std::vector<float> Tensor::to_vector() const;
template std::vector<double> Tensor::to_vector() const;
template std::vector<int64_t> Tensor::to_vector() const;
template std::vector<int32_t> Tensor::to_vector() const;
template std::vector<uint8_t> Tensor::to_vector() const;
template std::vector<bool> Tensor::to_vector() const;

}  // namespace weft
