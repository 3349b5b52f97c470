#include <weft/autograd/autograd.h>
#include <weft/autograd/node.h>
#include <weft/ops/copy.h>
#include <weft/ops/matmul.h>

#include <unordered_map>

namespace weft {

namespace {

thread_local DType t_dtype = float32;
thread_local bool t_on = false;
thread_local int t_depth = 0;
thread_local size_t t_many = 64;

// A tensor as it was converted, good as long as the tensor is the same memory at the same version. While gradients are
// recorded, the operations that used the result hold it until their backward has run: that is as long as it is known
// here. Otherwise it is held until the scope ends.
struct Converted {
  std::weak_ptr<TensorImpl> source;
  std::weak_ptr<Storage> storage;
  uint32_t version = 0, memory_version = 0;
  Shape shape, strides;  // of the result
  DType dtype = float32;
  std::weak_ptr<Storage> memory;
  std::shared_ptr<Storage> held;

  Converted() = default;
  Converted(const Tensor& x, const Tensor& y)
      : source(x.impl_ptr()),
        storage(x.impl().storage),
        version(x.impl().storage->version()),
        memory_version(y.impl().storage->version()),
        shape(y.shape()),
        strides(y.strides()),
        dtype(y.dtype()),
        memory(y.impl().storage) {}
  // The result for x; undefined where there is none.
  Tensor find(const Tensor& x, DType wanted) const {
    auto kept = memory.lock();
    const bool fits = kept && source.lock() == x.impl_ptr() && storage.lock() == x.impl().storage &&
                      version == x.impl().storage->version() && dtype == wanted && shape == x.shape() &&
                      memory_version == kept->version();
    return fits ? Tensor(std::make_shared<TensorImpl>(std::move(kept), 0, shape, strides, dtype)) : Tensor();
  }
};

std::unordered_map<const TensorImpl*, Converted>& converted() {
  thread_local std::unordered_map<const TensorImpl*, Converted> all;
  return all;
}

Tensor convert_once(const Tensor& x) {
  auto& all = converted();
  if (all.size() > t_many) {  // a long scope in which tensors come and go
    std::erase_if(all,
                  [](const auto& entry) { return entry.second.source.expired() || entry.second.memory.expired(); });
    t_many = 2 * all.size() + 64;
  }
  Converted& c = all[x.impl_ptr().get()];
  Tensor y = c.find(x, t_dtype);
  if (!y.defined()) {
    y = cast(x.detach(), t_dtype);
    c = Converted(x, y);
  }
  if (!grad_enabled()) c.held = y.impl().storage;
  return y;
}

// The parameter that x is, or is a view of (a transpose, a slice); none for what was computed.
Tensor parameter_of(const Tensor& x) {
  if (!x.requires_grad()) return {};
  if (x.is_leaf()) return x;
  const Node* node = x.grad_fn().get();
  while (node->edges.size() == 1 && node->edges[0].node) {
    const Edge& from = node->edges[0];
    if (from.storage.lock() != x.impl().storage) return {};
    if (from.node->id == 0) return Tensor(from.node->leaf.lock());
    node = from.node.get();
  }
  return {};
}

Tensor convert(const Tensor& x) {
  if (!x.requires_grad()) return cast(x.detach(), t_dtype);
  const Tensor parameter = parameter_of(x);
  if (!parameter.defined() || !parameter.is_contiguous()) return convert_once(x);
  const Tensor whole = convert_once(parameter);
  if (x.same_as(parameter)) return whole;
  return as_strided_raw(whole, x.shape(), x.strides(), x.impl().offset - parameter.impl().offset);
}

}  // namespace

Autocast::Autocast(DType dtype, bool enabled) : before_(t_dtype), enabled_before_(t_on) {
  check(is_half(dtype), "Autocast: expected bfloat16 or float16, got ", dtype);
  t_dtype = dtype, t_on = enabled;
  ++t_depth;
}
Autocast::~Autocast() {
  t_dtype = before_, t_on = enabled_before_;
  if (--t_depth == 0) forget();
}
bool Autocast::active() { return t_on; }
DType Autocast::dtype() { return t_dtype; }
void Autocast::forget() { converted().clear(); }

Tensor Autocast::apply(const Tensor& x) {
  if (!t_on || !x.defined() || x.dtype() != float32) return x;
  return record("cast", convert(x).detach(), {x}, [](const Tensor& dy) -> Grads { return {dy}; });
}

}  // namespace weft
