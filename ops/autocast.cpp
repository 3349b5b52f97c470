#include <weft/autograd/autograd.h>
#include <weft/autograd/node.h>
#include <weft/ops/copy.h>
#include <weft/ops/kernel.h>
#include <weft/ops/matmul.h>

#include <unordered_map>
#include <unordered_set>

namespace weft {

// y[i] = x[i] in y[i]'s dtype for many tensors at once. x: float32, y: half, all contiguous, on one device.
WEFT_DECLARE_KERNEL(cast_all, const Tensors& x, const Tensors& y)

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
  bool early = false;  // converted before it was asked for, and held until then

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

// The parameters that a scope has asked for, in that order. A training step asks for the same ones again and again: the
// first one asked for has all others of the scope before converted with it, in one launch.
struct Asked {
  std::vector<std::weak_ptr<TensorImpl>> parameters;
  std::unordered_set<const TensorImpl*> known;
  DType dtype = float32;

  // Once each, however often a long scope asks.
  void add(const Tensor& x, DType wanted) {
    if (known.insert(x.impl_ptr().get()).second) parameters.push_back(x.impl_ptr());
    dtype = wanted;
  }

  // Those that are still there and were last converted beside x, if x was the first.
  Tensors expected_with(const Tensor& x, DType wanted) const {
    Tensors all;
    if (dtype != wanted || parameters.size() < 2 || parameters[0].lock() != x.impl_ptr()) return all;
    for (const auto& weak : parameters) {
      auto impl = weak.lock();
      if (!impl) continue;
      const Tensor p(std::move(impl));
      if (p.dtype() == float32 && p.is_contiguous() && p.device() == x.device()) all.push_back(p);
    }
    return all;
  }
};
thread_local Asked t_asked, t_asked_before;

void convert_expected(const Tensor& first) {
  const Tensors x = t_asked_before.expected_with(first, t_dtype);
  if (x.empty()) return;
  Tensors y;
  for (const Tensor& p : x) y.push_back(empty(p.shape(), t_dtype, p.device()));
  WEFT_KERNEL(first.device(), cast_all, x, y);
  for (size_t i = 0; i < x.size(); ++i) {
    Converted& c = converted()[x[i].impl_ptr().get()];
    c = Converted(x[i], y[i]);
    c.held = y[i].impl().storage, c.early = true;
  }
}

Tensor convert_once(const Tensor& x) {
  auto& all = converted();
  if (all.size() > t_many) {  // a long scope in which tensors come and go
    std::erase_if(all,
                  [](const auto& entry) { return entry.second.source.expired() || entry.second.memory.expired(); });
    t_many = 2 * all.size() + 64;
  }
  const bool expects = grad_enabled() && x.is_leaf();
  if (expects && t_asked.parameters.empty()) convert_expected(x);
  Converted& c = all[x.impl_ptr().get()];
  Tensor y = c.find(x, t_dtype);
  if (expects && (c.early || !y.defined())) t_asked.add(x, t_dtype);
  if (!y.defined()) {
    y = cast(x.detach(), t_dtype);
    c = Converted(x, y);
  }
  if (!grad_enabled())
    c.held = y.impl().storage;
  else if (c.early)
    c.held = nullptr;
  c.early = false;
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
void Autocast::forget(bool expect) {
  converted().clear();
  if (!t_asked.parameters.empty()) t_asked_before = std::move(t_asked);
  t_asked = {};
  if (!expect) t_asked_before = {};
}

Tensor Autocast::apply(const Tensor& x) {
  if (!t_on || !x.defined() || x.dtype() != float32) return x;
  return record("cast", convert(x).detach(), {x}, [](const Tensor& dy) -> Grads { return {dy}; });
}

}  // namespace weft
