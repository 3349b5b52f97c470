// The graph as it grows: modes, nodes, and what a tensor knows of the operation it came from.
#include <weft/autograd/autograd.h>
#include <weft/autograd/node.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/reduce.h>

#include <algorithm>
#include <atomic>

namespace weft {

// --- modes -----------------------------------------------------------------------------------------------------------

namespace {
thread_local bool t_grad_enabled = true;
thread_local bool t_anomaly = false;
}  // namespace

bool grad_enabled() { return t_grad_enabled; }
GradMode::GradMode(bool enabled) : before_(t_grad_enabled) { t_grad_enabled = enabled; }
GradMode::~GradMode() { t_grad_enabled = before_; }

bool anomaly_enabled() { return t_anomaly; }
AnomalyMode::AnomalyMode(bool enabled) : before_(t_anomaly) { t_anomaly = enabled; }
AnomalyMode::~AnomalyMode() { t_anomaly = before_; }

// --- nodes -----------------------------------------------------------------------------------------------------------

// A node owns its edges and, through its closure, tensors that own other nodes. Dropping the head of a long chain would
// recurse once a node; instead the parts are queued and the outermost destructor takes the queue apart.
Node::~Node() {
  struct Parts {
    std::vector<Edge> edges;
    std::function<Tensors(const Tensors&, const Tensors&)> backward;
    std::vector<Output> outputs;
  };
  thread_local std::vector<Parts>* queue = nullptr;
  if (edges.empty() && !backward) return;
  Parts mine{std::move(edges), std::move(backward), std::move(outputs)};
  if (queue) {
    queue->push_back(std::move(mine));
    return;
  }
  std::vector<Parts> own;
  queue = &own;
  own.push_back(std::move(mine));
  while (!own.empty()) {
    Parts part = std::move(own.back());
    own.pop_back();
  }
  queue = nullptr;
}

namespace {
std::atomic<uint64_t> g_next_id{1};
}  // namespace

uint64_t next_node_id() { return g_next_id.load(std::memory_order_relaxed); }

std::shared_ptr<Node> gradient_node(const Tensor& x) {
  const auto& meta = x.impl().autograd;
  if (!meta || !meta->requires_grad) return nullptr;
  if (!std::atomic_load(&meta->node)) {  // a leaf's node: id 0, so that every operation comes before it
    auto node = std::make_shared<Node>();
    node->name = "leaf";
    node->leaf = x.impl_ptr();
    Node::Output out;
    out.shape = x.shape();
    out.dtype = x.dtype();
    out.device = x.device();
    out.meta = meta;
    out.hooks = meta->hooks;
    node->outputs.push_back(std::move(out));
    std::shared_ptr<Node> none;
    // Two threads may use a shared parameter at once: the first node stays.
    std::atomic_compare_exchange_strong(&meta->node, &none, node);
  }
  return std::atomic_load(&meta->node);
}

bool has_nan(const Tensor& x) {
  NoGrad guard;
  return x.is_floating() && any(isnan(x.detach())).item<int64_t>() != 0;
}

// --- recording -------------------------------------------------------------------------------------------------------

namespace {
bool any_requires_grad(const Tensors& inputs) {
  return std::any_of(inputs.begin(), inputs.end(), [](const Tensor& x) { return x.defined() && x.requires_grad(); });
}

Edge edge_from(const Tensor& x) {
  Edge edge;
  if (!x.defined()) return edge;
  edge.node = x.is_floating() ? gradient_node(x) : nullptr;
  edge.index = edge.node && x.impl().autograd ? x.impl().autograd->index : 0;
  edge.shape = x.shape();
  edge.dtype = x.dtype();
  edge.storage = x.impl().storage;
  edge.version = x.impl().storage->version();
  return edge;
}

// Makes y the node's next output. is_input: it is a handle to an input too.
Node::Output make_output(Tensor& y, const std::shared_ptr<Node>& node, bool is_input) {
  Node::Output out;
  if (!y.defined()) return out;
  out.shape = y.shape();
  out.dtype = y.dtype();
  out.device = y.device();
  out.storage = y.impl().storage;
  out.version = y.impl().storage->version();
  if (node->wants_outputs) {
    out.saved = std::make_shared<TensorImpl>(y.impl());
    out.saved->autograd = nullptr;
  }
  if (!y.is_floating()) return out;
  // A result that is a handle to something the caller keeps (x.contiguous() of a contiguous x) must not be changed
  // under its feet: the recorded output is a tensor of its own.
  const bool shared = is_input || y.impl_ptr().use_count() > 2 || y.impl().autograd;
  auto impl = shared ? std::make_shared<TensorImpl>(y.impl()) : y.impl_ptr();
  impl->autograd = std::make_shared<AutogradMeta>();
  impl->autograd->requires_grad = true;
  impl->autograd->node = node;
  impl->autograd->index = static_cast<int>(node->outputs.size());
  out.meta = impl->autograd;
  y = Tensor(std::move(impl));
  return out;
}

}  // namespace

bool detail::must_record(const Tensors& inputs) {
  if (t_anomaly) return true;  // record() looks for NaN
  if (!t_grad_enabled) return false;
  return any_requires_grad(inputs);
}

void detail::record(const char* name, Tensors& outputs, const Tensors& inputs, BackwardFn backward,
                    bool wants_outputs) {
  if (t_anomaly) {
    for (const Tensor& y : outputs) {
      check(!y.defined() || !has_nan(y), name, ": made a NaN in its forward pass");
    }
    if (!t_grad_enabled || !any_requires_grad(inputs)) return;
  }
  auto node = std::make_shared<Node>();
  node->id = g_next_id.fetch_add(1, std::memory_order_relaxed);
  node->name = name;
  node->edges.reserve(inputs.size());
  for (const Tensor& x : inputs) node->edges.push_back(edge_from(x));
  node->backward = std::move(backward);
  node->wants_outputs = wants_outputs;
  node->outputs.reserve(outputs.size());
  for (Tensor& y : outputs) {
    const bool is_input = std::any_of(inputs.begin(), inputs.end(), [&](const Tensor& x) { return x.same_as(y); });
    node->outputs.push_back(make_output(y, node, is_input));
  }
}

// --- the Tensor's side -----------------------------------------------------------------------------------------------

namespace {
AutogradMeta& meta_of(const Tensor& x) {
  auto& meta = x.impl().autograd;
  if (!meta) meta = std::make_shared<AutogradMeta>();
  return *meta;
}
}  // namespace

bool Tensor::requires_grad() const { return impl().autograd && impl().autograd->requires_grad; }

Tensor& Tensor::requires_grad_(bool on) {
  if (on == requires_grad()) return *this;
  check(!on || is_floating(), "requires_grad_: only floating tensors have gradients, this one is ", dtype());
  check(is_leaf(),
        "requires_grad_: only a leaf can be changed; this tensor is the result of an operation (use detach())");
  meta_of(*this).requires_grad = on;
  return *this;
}

std::shared_ptr<Node> Tensor::grad_fn() const {
  const auto& meta = impl().autograd;
  auto node = meta ? std::atomic_load(&meta->node) : nullptr;  // another thread may be making a shared leaf's node
  return node && node->id != 0 ? node : nullptr;
}

Tensor Tensor::grad() const { return impl().autograd ? impl().autograd->grad : Tensor(); }
void Tensor::set_grad(const Tensor& grad) const {
  check(!grad.defined() || grad.shape() == shape(), "set_grad: the gradient has shape ",
        grad.defined() ? grad.shape() : Shape(), ", the tensor ", shape());
  check(!grad.defined() || grad.device() == device(), "set_grad: the gradient is on ",
        grad.defined() ? grad.device() : Device(), ", the tensor on ", device());
  meta_of(*this).grad = grad;
}
void Tensor::retain_grad() const {
  check(requires_grad(), "retain_grad: the tensor does not require a gradient");
  if (!is_leaf()) meta_of(*this).retain_grad = true;
}

Tensor Tensor::detach() const {
  auto copy = std::make_shared<TensorImpl>(impl().storage, impl().offset, impl().shape, impl().strides, impl().dtype);
  return Tensor(std::move(copy));
}

int Tensor::register_hook(std::function<Tensor(const Tensor&)> hook) const {
  check(requires_grad(), "register_hook: the tensor does not require a gradient");
  auto& meta = meta_of(*this);
  if (!meta.hooks) meta.hooks = std::make_shared<Hooks>();
  if (meta.node) meta.node->outputs[static_cast<size_t>(meta.index)].hooks = meta.hooks;
  meta.hooks->list.emplace_back(meta.hooks->next_id, std::move(hook));
  return meta.hooks->next_id++;
}

void Tensor::remove_hook(int id) const {
  const auto& meta = impl().autograd;
  if (meta && meta->hooks) std::erase_if(meta->hooks->list, [id](const auto& h) { return h.first == id; });
}

}  // namespace weft
