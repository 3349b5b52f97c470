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

// A parameter as it was converted, good as long as the parameter is the same memory at the same version.
struct Converted {
  std::weak_ptr<TensorImpl> source;
  std::weak_ptr<Storage> storage;
  uint32_t version = 0;
  Tensor value;

  bool fits(const Tensor& x, DType dtype) const {
    return source.lock() == x.impl_ptr() && storage.lock() == x.impl().storage &&
           version == x.impl().storage->version() && value.dtype() == dtype && value.shape() == x.shape();
  }
};

std::unordered_map<const TensorImpl*, Converted>& converted() {
  thread_local std::unordered_map<const TensorImpl*, Converted> all;
  return all;
}

Tensor convert_parameter(const Tensor& x) {
  auto& all = converted();
  if (all.size() > t_many) {  // a long scope in which parameters come and go
    std::erase_if(all, [](const auto& entry) { return entry.second.source.expired(); });
    t_many = 2 * all.size() + 64;
  }
  Converted& c = all[x.impl_ptr().get()];
  if (!c.value.defined() || !c.fits(x, t_dtype))
    c = {x.impl_ptr(), x.impl().storage, x.impl().storage->version(), cast(x.detach(), t_dtype)};
  return c.value;
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
  const Tensor parameter = parameter_of(x);
  if (!parameter.defined() || !parameter.is_contiguous()) return cast(x.detach(), t_dtype);
  const Tensor whole = convert_parameter(parameter);
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
