#include <weft/autograd/autograd.h>
#include <weft/autograd/node.h>
#include <weft/ops/copy.h>
#include <weft/ops/kernel.h>
#include <weft/ops/shape.h>
#ifdef WEFT_CUDA
#include <weft/cuda/runtime.h>
#endif

namespace weft {

WEFT_DECLARE_KERNEL(copy, const Tensor& src, Tensor& dst)
WEFT_DECLARE_KERNEL(fill, Tensor& dst, Scalar value)

void require_cpu(Device device, const char* kernel) {
  check(device.is_cpu(), kernel, ": this build of weft has no CUDA: configure with the preset 'cuda' (-DWEFT_CUDA=ON)");
}

void check_same_device(const char* op, std::initializer_list<const Tensor*> tensors) {
  const Tensor* first = nullptr;
  for (const Tensor* t : tensors) {
    if (!t->defined()) continue;
    if (!first) first = t;
    check(t->device() == first->device(), op, ": tensors are on different devices: ", first->device(), " and ",
          t->device());
  }
}

#ifdef WEFT_CUDA
namespace cuda {
void transfer(const Tensor& src, Tensor& dst, bool non_blocking) {
  auto place = [](const Tensor& x) {
    const Storage& s = *x.impl().storage;
    return Place{x.raw_data(), s.device(), s.is_pinned() ? s.keep() : nullptr};
  };
  transfer(place(src), place(dst), static_cast<size_t>(src.numel()) * size_of(src.dtype()), non_blocking);
}
}  // namespace cuda
#endif

void copy_into(const Tensor& src, Tensor& dst, bool non_blocking) {
  check(src.shape() == dst.shape(), "copy: shapes differ: ", src.shape(), " into ", dst.shape());
#ifdef WEFT_CUDA
  if (non_blocking && !(src.device() == dst.device()) && src.dtype() == dst.dtype() && src.is_contiguous() &&
      dst.is_contiguous())
    return cuda::transfer(src, dst, true);
#else
  static_cast<void>(non_blocking);
#endif
  WEFT_KERNEL(src.device().is_cpu() ? dst.device() : src.device(), copy, src, dst);
}

void fill_into(Tensor& dst, Scalar value) { WEFT_KERNEL(dst.device(), fill, dst, value); }

Tensor cast(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  Tensor y = empty(x.shape(), dtype, x.device());
  copy_into(x, y);
  if (!is_floating(dtype) || !x.is_floating()) return y;
  return record("cast", y, {x}, [](const Tensor& dy) -> Grads { return {dy}; });  // the sweep converts back
}

Tensor Tensor::contiguous() const { return is_contiguous() ? *this : clone(); }

Tensor Tensor::clone() const {
  Tensor y = empty(shape(), dtype(), device());
  copy_into(*this, y);
  return record("clone", y, {*this}, [](const Tensor& dy) -> Grads { return {dy}; });
}

Tensor Tensor::to(DType dtype) const { return cast(*this, dtype); }

Tensor pin_memory(const Tensor& x) {
  check(x.device().is_cpu(), "pin_memory: expected a tensor on the CPU, got one on ", x.device());
  if (x.impl().storage->is_pinned() && x.is_contiguous()) return x;
  auto storage = Storage::pinned(static_cast<size_t>(x.numel()) * size_of(x.dtype()));
  Tensor y(std::make_shared<TensorImpl>(std::move(storage), 0, x.shape(), x.shape().contiguous_strides(), x.dtype()));
  copy_into(x, y);
  return y;
}

Tensor Tensor::to(Device target, bool non_blocking) const {
  if (device() == target) return *this;
  Tensor y = empty(shape(), dtype(), target);
  copy_into(*this, y, non_blocking);
  return record("to", y, {*this}, [from = device()](const Tensor& dy) -> Grads { return {dy.to(from)}; });
}

void prepare_write(const Tensor& x, const char* op) {
  check(!(grad_enabled() && x.requires_grad()), op,
        ": the tensor requires a gradient; write to it under NoGrad or detach it");
  check(!x.impl().storage->read_only(), op, ": the tensor lies in read-only memory (a mapped file); clone it first");
  x.impl().storage->bump_version();
}

Tensor& Tensor::copy_(const Tensor& source, bool non_blocking) {
  prepare_write(*this, "copy_");
  copy_into(source.shape() == shape() ? source : source.detach().expand(shape()), *this, non_blocking);
  return *this;
}

Tensor& Tensor::fill_(Scalar value) {
  prepare_write(*this, "fill_");
  fill_into(*this, value);
  return *this;
}

void Tensor::set_data(const Tensor& other) const {
  TensorImpl& mine = impl();
  mine.storage = other.impl().storage;
  mine.offset = other.impl().offset;
  mine.shape = other.impl().shape;
  mine.strides = other.impl().strides;
  mine.dtype = other.impl().dtype;
  if (mine.autograd) {
    mine.autograd->grad = Tensor();
    if (is_leaf()) mine.autograd->node = nullptr;  // it described the old shape, dtype and device
  }
}

}  // namespace weft
