// Tensor: a handle to a strided view of shared memory, with its place in the autograd graph.
#pragma once

#include <weft/tensor/dtype.h>
#include <weft/tensor/shape.h>
#include <weft/tensor/storage.h>

#include <functional>
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

namespace weft {

class Tensor;
struct Node;
using Tensors = std::vector<Tensor>;

/// What autograd keeps for a tensor; absent for plain data.
struct AutogradMeta;

struct TensorImpl {
  std::shared_ptr<Storage> storage;
  int64_t offset = 0;  // elements from the start of the storage
  Shape shape;
  Shape strides;  // elements
  DType dtype = float32;
  std::shared_ptr<AutogradMeta> autograd;

  TensorImpl() = default;
  TensorImpl(std::shared_ptr<Storage> s, int64_t off, const Shape& sh, const Shape& st, DType d)
      : storage(std::move(s)), offset(off), shape(sh), strides(st), dtype(d) {}
};

/// Copying a Tensor copies the handle, not the data; clone() copies the data. A default-constructed Tensor is
/// undefined: it stands for "none" and only defined() may be called on it.
/// Const-ness is that of the handle, as with a shared_ptr.
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(std::shared_ptr<TensorImpl> impl) : impl_(std::move(impl)) {}

  bool defined() const { return impl_ != nullptr; }
  explicit operator bool() const = delete;  // neither "defined" nor "true": say which

  const Shape& shape() const { return impl().shape; }
  const Shape& strides() const { return impl().strides; }
  int64_t dim() const { return shape().size(); }
  int64_t size(int64_t d) const { return shape()[wrap_dim(d, dim(), "size")]; }
  int64_t numel() const { return shape().numel(); }
  DType dtype() const { return impl().dtype; }
  Device device() const { return impl().storage->device(); }
  bool is_floating() const { return weft::is_floating(dtype()); }
  bool is_contiguous() const;

  /// First element; T must be the tensor's own type. Memory of the tensor's device. Writing through it is not
  /// versioned: use the in-place calls below for tensors that autograd may have saved.
  template <class T>
  T* data() const {
    check(dtype_of<T>() == dtype(), "data: the tensor is ", dtype(), ", asked for ", dtype_of<T>());
    return static_cast<T*>(impl().storage->data()) + impl().offset;
  }
  void* raw_data() const {
    return static_cast<char*>(impl().storage->data()) + impl().offset * static_cast<int64_t>(size_of(dtype()));
  }

  /// The value of a tensor of one element, converted; waits for the device.
  template <class T = double>
  T item() const {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(item_int());
    else
      return static_cast<T>(item_double());
  }
  /// All elements in row-major order, converted, on the host.
  template <class T = float>
  std::vector<T> to_vector() const;

  // --- views: share memory, differentiable (ops/shape.h says more) ------------------------------------------------
  /// Same elements in another shape; one size may be -1. A view where strides allow, else a copy.
  Tensor reshape(const Shape& shape) const;
  Tensor flatten(int64_t start_dim = 0, int64_t end_dim = -1) const;
  Tensor unflatten(int64_t dim, const Shape& sizes) const;
  Tensor permute(const Shape& dims) const;
  Tensor transpose(int64_t a, int64_t b) const;
  Tensor t() const;  ///< transpose of a matrix
  Tensor movedim(int64_t from, int64_t to) const;
  Tensor unsqueeze(int64_t dim) const;
  Tensor squeeze(int64_t dim) const;
  Tensor squeeze() const;
  /// Sizes of 1 grow without a copy; -1 keeps a size; new leading dimensions may be added.
  Tensor expand(const Shape& shape) const;
  Tensor expand_as(const Tensor& other) const { return expand(other.shape()); }
  /// x[..., start:end:step, ...] along dim; negative positions count from the end, out-of-range ones are clamped.
  Tensor slice(int64_t dim, int64_t start, int64_t end = INT64_MAX, int64_t step = 1) const;
  Tensor narrow(int64_t dim, int64_t start, int64_t length) const;  ///< as slice, but out of range is an error
  Tensor select(int64_t dim, int64_t index) const;                  ///< drops dim
  Tensor operator[](int64_t index) const { return select(0, index); }

  // --- copies ------------------------------------------------------------------------------------------------------
  Tensor contiguous() const;  ///< itself where already row-major
  Tensor clone() const;       ///< a row-major copy, differentiable
  Tensor to(DType dtype) const;
  /// non_blocking: with page-locked memory (pin_memory) on the CPU's side the call returns before the copy is done.
  /// Until then nobody may write to the source or read the result on the host; work on the same stream comes after it
  /// anyway. Every other copy has taken its source, or has its result, when it returns.
  Tensor to(Device device, bool non_blocking = false) const;
  Tensor cpu() const { return to(Device::cpu()); }

  // --- the most used reductions; all are free functions too (ops/reduce.h) -------------------------------------------
  Tensor sum() const;
  Tensor mean() const;

  // --- in-place: only where autograd is not recording through this tensor; raises the storage's version --------------
  Tensor& copy_(const Tensor& source, bool non_blocking = false);  ///< broadcasts and converts; non_blocking as in to()
  Tensor& fill_(Scalar value);
  Tensor& zero_() { return fill_(0); }
  /// Makes this tensor (and every handle to it) refer to the data of other: what Module::to and loading use.
  void set_data(const Tensor& other) const;

  // --- autograd (autograd/autograd.h) --------------------------------------------------------------------------------
  bool requires_grad() const;
  /// Marks a leaf as a variable to differentiate by; throws for an integer tensor or for a result of recorded ops.
  Tensor& requires_grad_(bool on = true);
  bool is_leaf() const { return !grad_fn(); }
  std::shared_ptr<Node> grad_fn() const;
  /// Gradient that backward() has left here; undefined before.
  Tensor grad() const;
  void set_grad(const Tensor& grad) const;
  /// Keeps the gradient of a non-leaf too.
  void retain_grad() const;
  /// The same data, outside the graph.
  Tensor detach() const;
  /// Runs hook on the gradient of this tensor when a sweep has it complete; what it returns (if defined) replaces it.
  /// Returns an id for remove_hook.
  int register_hook(std::function<Tensor(const Tensor& grad)> hook) const;
  void remove_hook(int id) const;
  /// Differentiates this scalar (or this tensor with an upstream gradient) by every leaf that led to it.
  void backward(const Tensor& grad = {}, bool retain_graph = false, bool create_graph = false) const;

  TensorImpl& impl() const {
    if (!impl_) [[unlikely]]
      fail("undefined tensor: expected a tensor, got none");
    return *impl_;
  }
  const std::shared_ptr<TensorImpl>& impl_ptr() const { return impl_; }
  bool same_as(const Tensor& other) const { return impl_ == other.impl_; }

 private:
  double item_double() const;
  int64_t item_int() const;
  std::shared_ptr<TensorImpl> impl_;
};

/// Uninitialised memory.
Tensor empty(const Shape& shape, DType dtype = float32, Device device = default_device());
Tensor empty_like(const Tensor& x);
Tensor empty_like(const Tensor& x, DType dtype);
/// A row-major copy of a CPU tensor in page-locked memory, itself where it lies there: what copies that do not wait
/// need. Not recorded. Throws where there is no GPU.
Tensor pin_memory(const Tensor& x);
/// A view of x's memory with any sizes, strides and offset (elements), not recorded: the building block of the view
/// ops.
Tensor as_strided_raw(const Tensor& x, const Shape& shape, const Shape& strides, int64_t offset);

/// As PyTorch prints: tensor([[1.0000, 2.0000]]), with dtype where it is not the default and `...` beyond 1000
/// elements.
std::string to_string(const Tensor& x);
void put(std::string& s, const Tensor& x);
std::ostream& operator<<(std::ostream& out, const Tensor& x);

}  // namespace weft
