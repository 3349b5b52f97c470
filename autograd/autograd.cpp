#include <weft/autograd/autograd.h>
#include <weft/autograd/node.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/random.h>
#include <weft/ops/reduce.h>

#include <algorithm>
#include <atomic>
#include <unordered_map>
#include <unordered_set>

namespace weft {

// --- modes -----------------------------------------------------------------------------------------------------------

namespace {
thread_local bool t_grad_enabled = true;
thread_local bool t_anomaly = false;
std::atomic<uint64_t> g_next_id{1};
}  // namespace

bool grad_enabled() { return t_grad_enabled; }
GradMode::GradMode(bool enabled) : before_(t_grad_enabled) { t_grad_enabled = enabled; }
GradMode::~GradMode() { t_grad_enabled = before_; }
AnomalyMode::AnomalyMode() : before_(t_anomaly) { t_anomaly = true; }
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
    node->outputs.push_back(std::move(out));
    std::shared_ptr<Node> none;
    // Two threads may use a shared parameter at once: the first node stays.
    std::atomic_compare_exchange_strong(&meta->node, &none, node);
  }
  return std::atomic_load(&meta->node);
}

namespace {

bool has_nan(const Tensor& x) {
  NoGrad guard;
  return x.is_floating() && any(isnan(x.detach())).item<int64_t>() != 0;
}

Tensor with_graph(const std::shared_ptr<TensorImpl>& data, const std::shared_ptr<Node>& node, int index) {
  auto impl = std::make_shared<TensorImpl>(*data);
  impl->autograd = std::make_shared<AutogradMeta>();
  impl->autograd->requires_grad = true;
  impl->autograd->node = node;
  impl->autograd->index = index;
  return Tensor(std::move(impl));
}

}  // namespace

bool detail::must_record(const Tensors& inputs) {
  if (t_anomaly) return true;  // record() looks for NaN
  if (!t_grad_enabled) return false;
  return std::any_of(inputs.begin(), inputs.end(), [](const Tensor& x) { return x.defined() && x.requires_grad(); });
}

void detail::record(const char* name, Tensors& outputs, const Tensors& inputs, BackwardFn backward,
                    bool wants_outputs) {
  if (t_anomaly) {
    for (const Tensor& y : outputs) {
      check(!y.defined() || !has_nan(y), name, ": made a NaN in its forward pass");
    }
    if (!t_grad_enabled ||
        std::none_of(inputs.begin(), inputs.end(), [](const Tensor& x) { return x.defined() && x.requires_grad(); })) {
      return;
    }
  }
  auto node = std::make_shared<Node>();
  node->id = g_next_id.fetch_add(1, std::memory_order_relaxed);
  node->name = name;
  node->edges.reserve(inputs.size());
  for (const Tensor& x : inputs) {
    Edge edge;
    if (x.defined()) {
      edge.node = x.is_floating() ? gradient_node(x) : nullptr;
      edge.index = edge.node && x.impl().autograd ? x.impl().autograd->index : 0;
      edge.shape = x.shape();
      edge.dtype = x.dtype();
      edge.storage = x.impl().storage;
      edge.version = x.impl().storage->version();
    }
    node->edges.push_back(std::move(edge));
  }
  node->backward = std::move(backward);
  node->wants_outputs = wants_outputs;
  node->outputs.reserve(outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    Tensor& y = outputs[i];
    Node::Output out;
    if (y.defined()) {
      out.shape = y.shape();
      out.dtype = y.dtype();
      out.device = y.device();
      out.storage = y.impl().storage;
      out.version = y.impl().storage->version();
      if (wants_outputs) {
        out.saved = std::make_shared<TensorImpl>(y.impl());
        out.saved->autograd = nullptr;
      }
      if (y.is_floating()) {
        // A result that is a handle to something the caller keeps (x.contiguous() of a contiguous x) must not be
        // changed under its feet: the recorded output is a tensor of its own.
        auto impl =
            y.impl_ptr().use_count() > 2 || y.impl().autograd ? std::make_shared<TensorImpl>(y.impl()) : y.impl_ptr();
        impl->autograd = std::make_shared<AutogradMeta>();
        impl->autograd->requires_grad = true;
        impl->autograd->node = node;
        impl->autograd->index = static_cast<int>(i);
        out.meta = impl->autograd;
        y = Tensor(std::move(impl));
      }
    }
    node->outputs.push_back(std::move(out));
  }
}

// --- the sweep -------------------------------------------------------------------------------------------------------

namespace {

void add_in(Tensor& sum, const Tensor& g) { sum = sum.defined() ? add(sum, g) : g; }

// The one place where a gradient gets the shape and dtype of what it is the gradient of.
Tensor fit(const Tensor& g, const Edge& edge, const char* op) {
  Tensor out = g;
  if (!(g.shape() == edge.shape)) {
    check(broadcast_shapes(g.shape(), edge.shape, op) == g.shape(), op, ": backward made a gradient of shape ",
          g.shape(), " for an input of shape ", edge.shape);
    out = sum_to(out, edge.shape);
  }
  return out.dtype() == edge.dtype ? out : out.to(edge.dtype);
}

void check_version(const std::weak_ptr<Storage>& storage, uint32_t version, const char* op, const char* what, size_t i,
                   const Shape& shape) {
  if (auto s = storage.lock()) {
    check(s->version() == version, op, ": ", what, " ", i, " of shape ", shape,
          " was changed in place after the forward pass (version ", s->version(), ", saved at version ", version,
          "): backward would use the wrong values");
  }
}

class Sweep {
 public:
  Sweep(const Tensors& outputs, const Tensors& grad_outputs, bool retain, bool create)
      : retain_(retain || create), create_(create) {
    check(grad_outputs.empty() || grad_outputs.size() == outputs.size(), "backward: ", outputs.size(), " outputs but ",
          grad_outputs.size(), " gradients");
    for (size_t i = 0; i < outputs.size(); ++i) {
      seed(outputs[i], grad_outputs.empty() ? Tensor() : grad_outputs[i]);
    }
    collect();
  }

  /// Asks the sweep to hand over the gradient of x instead of adding it to .grad(). Returns its slot.
  void capture(const Tensor& x) {
    auto node = gradient_node(x);
    check(node != nullptr, "grad: an input of shape ", x.shape(), " does not require a gradient");
    captured_.push_back({node, x.impl().autograd->index, Tensor()});
    wanted_.insert(node.get());
    capturing_ = true;
  }

  void run() {
    if (capturing_) mark_needed();
    GradMode mode(create_);
    for (auto& node : order_) {
      auto it = grads_.find(node.get());
      if (it != grads_.end()) {
        Tensors dy = std::move(it->second);
        grads_.erase(it);
        visit(node, dy);
      }
      node.reset();  // with the graph not retained, this frees what only the sweep still held
    }
  }

  Tensors captured() const {
    Tensors out;
    for (const auto& c : captured_) out.push_back(c.grad);
    return out;
  }

 private:
  struct Capture {
    std::shared_ptr<Node> node;
    int index;
    Tensor grad;
  };

  void seed(const Tensor& y, Tensor dy) {
    auto node = gradient_node(y);
    check(node != nullptr, "backward: the output of shape ", y.shape(),
          " does not require a gradient: no input of it does");
    if (!dy.defined()) {
      check(y.numel() == 1, "backward: a gradient can be left out only for a scalar; the output has shape ", y.shape());
      dy = full(y.shape(), 1, {.dtype = y.dtype(), .device = y.device()});
    }
    check(dy.shape() == y.shape(), "backward: the gradient has shape ", dy.shape(), ", the output ", y.shape());
    Edge edge;
    edge.node = node;
    edge.index = y.impl().autograd->index;
    edge.shape = y.shape();
    edge.dtype = y.dtype();
    GradMode mode(create_);
    deliver(edge, fit(dy, edge, "backward"));
    roots_.push_back(node);
  }

  void collect() {
    std::unordered_set<Node*> seen;
    std::vector<std::shared_ptr<Node>> stack = roots_;
    while (!stack.empty()) {
      auto node = std::move(stack.back());
      stack.pop_back();
      if (!seen.insert(node.get()).second) continue;
      check(!node->done, node->name,
            ": backward has been here before and freed what it needs; pass retain_graph the first time");
      for (const Edge& e : node->edges) {
        if (e.node && !seen.count(e.node.get())) stack.push_back(e.node);
      }
      order_.push_back(std::move(node));
    }
    std::sort(order_.begin(), order_.end(), [](const auto& a, const auto& b) { return a->id > b->id; });
    roots_.clear();
  }

  // For grad(): only nodes from which a wanted tensor can be reached need to run.
  void mark_needed() {
    for (auto it = order_.rbegin(); it != order_.rend(); ++it) {  // inputs before the operations that use them
      Node* n = it->get();
      bool needed = wanted_.count(n) > 0;
      for (const Edge& e : n->edges) needed = needed || (e.node && needed_.count(e.node.get()));
      if (needed) needed_.insert(n);
    }
  }

  void deliver(const Edge& edge, const Tensor& g) {
    Tensors& slots = grads_[edge.node.get()];
    if (slots.empty()) slots.resize(edge.node->outputs.size());
    add_in(slots[static_cast<size_t>(edge.index)], g);
  }

  void visit(const std::shared_ptr<Node>& node, Tensors& dy) {
    apply_hooks(*node, dy);
    for (auto& c : captured_) {
      if (c.node == node) c.grad = dy[static_cast<size_t>(c.index)];
    }
    if (node->id == 0) return finish_leaf(*node, dy[0]);
    if (capturing_ && !std::any_of(node->edges.begin(), node->edges.end(),
                                   [&](const Edge& e) { return e.node && needed_.count(e.node.get()); })) {
      return;
    }
    Tensors dx = call(node, dy);
    for (size_t i = 0; i < dx.size(); ++i) {
      const Edge& edge = node->edges[i];
      if (!edge.node || !dx[i].defined()) continue;
      if (capturing_ && !needed_.count(edge.node.get())) continue;
      if (t_anomaly)
        check(!has_nan(dx[i]), node->name, ": made a NaN in its backward pass, in the gradient of input ", i);
      deliver(edge, fit(dx[i], edge, node->name));
    }
    if (!retain_) {
      node->backward = nullptr;
      for (auto& out : node->outputs) out.saved.reset();
      node->done = true;
    }
  }

  Tensors call(const std::shared_ptr<Node>& node, Tensors& dy) {
    Tensors y;
    for (size_t i = 0; i < node->edges.size(); ++i) {
      const Edge& e = node->edges[i];
      check_version(e.storage, e.version, node->name, "input", i, e.shape);
    }
    for (size_t i = 0; i < node->outputs.size(); ++i) {
      const auto& out = node->outputs[i];
      check_version(out.storage, out.version, node->name, "output", i, out.shape);
      if (!dy[i].defined() && is_floating(out.dtype))
        dy[i] = zeros(out.shape, {.dtype = out.dtype, .device = out.device});
      if (node->wants_outputs) {
        y.push_back(!out.saved                          ? Tensor()
                    : is_floating(out.dtype) && create_ ? with_graph(out.saved, node, static_cast<int>(i))
                                                        : Tensor(out.saved));
      }
    }
    Tensors dx = node->backward(dy, y);
    check(dx.size() == node->edges.size(), node->name, ": backward returned ", dx.size(), " gradients for ",
          node->edges.size(), " inputs");
    return dx;
  }

  void apply_hooks(Node& node, Tensors& dy) {
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      auto meta = node.outputs[i].meta.lock();
      if (!meta || !dy[i].defined()) continue;
      for (const auto& [id, hook] : Hooks(meta->hooks)) {
        if (Tensor g = hook(dy[i]); g.defined()) dy[i] = g;
      }
      if (meta->retain_grad && !capturing_) meta->grad = dy[i];
    }
  }

  void finish_leaf(Node& node, const Tensor& g) {
    if (capturing_) return;
    if (auto impl = node.leaf.lock(); impl && impl->autograd) {
      Tensor& grad = impl->autograd->grad;
      // A gradient that nobody else holds may be the tensor itself; a view, or one shared with another result, may not.
      const bool own = g.is_contiguous() && g.impl().storage.use_count() == 1;
      grad = grad.defined() ? add(grad, g) : create_ || own ? g : g.clone();
    }
  }

  const bool retain_, create_;
  bool capturing_ = false;
  std::vector<std::shared_ptr<Node>> roots_, order_;
  std::unordered_map<Node*, Tensors> grads_;
  std::vector<Capture> captured_;
  std::unordered_set<Node*> wanted_, needed_;
};

}  // namespace

void backward(const Tensors& outputs, const Tensors& grad_outputs, bool retain_graph, bool create_graph) {
  Sweep(outputs, grad_outputs, retain_graph, create_graph).run();
}

Tensors grad(const Tensors& outputs, const Tensors& inputs, const Tensors& grad_outputs, GradOptions options) {
  Sweep sweep(outputs, grad_outputs, options.retain_graph, options.create_graph);
  for (const Tensor& x : inputs) sweep.capture(x);
  sweep.run();
  Tensors out = sweep.captured();
  for (size_t i = 0; i < out.size(); ++i) {
    check(out[i].defined() || options.allow_unused, "grad: input ", i, " of shape ", inputs[i].shape(),
          " was not used by the outputs; pass allow_unused if that is meant");
  }
  return out;
}

// --- checkpointing ---------------------------------------------------------------------------------------------------

Tensor checkpoint(const std::function<Tensor(const Tensors&)>& f, const Tensors& inputs) {
  const auto generator_state = default_generator().state();
  Tensor out;
  {
    NoGrad guard;
    out = f(inputs);
  }
  if (!grad_enabled()) return out;
  // Parameters inside f are not among the inputs, so the result is recorded even where no input needs a gradient: an
  // anchor stands for them, and the repeated run's own sweep leaves their gradients in .grad().
  Tensor anchor = zeros({}, {.requires_grad = true});
  Tensors recorded = inputs;
  recorded.push_back(anchor);
  return record("checkpoint", out.detach(), recorded, [f, inputs, generator_state](const Tensor& dy) -> Grads {
    check(!grad_enabled(), "checkpoint: has no second derivative; call without create_graph");
    EnableGrad guard;
    Tensors fresh;
    for (const Tensor& x : inputs) {
      fresh.push_back(!x.defined() ? x : x.detach());
      if (x.defined() && x.requires_grad()) fresh.back().requires_grad_();
    }
    const auto now = default_generator().state();
    default_generator().set_state(generator_state);
    Tensor y = f(fresh);
    default_generator().set_state(now);
    Grads out(inputs.size() + 1);
    if (!y.requires_grad()) return out;
    backward({y}, {dy});
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (fresh[i].defined() && fresh[i].requires_grad()) out[i] = fresh[i].grad();
    }
    return out;
  });
}

// --- looking at the graph --------------------------------------------------------------------------------------------

namespace {

std::vector<Node*> reachable(const Tensors& outputs) {
  std::vector<Node*> order, stack;
  std::unordered_set<Node*> seen;
  for (const Tensor& y : outputs) {
    if (auto node = gradient_node(y)) stack.push_back(node.get());
  }
  while (!stack.empty()) {
    Node* n = stack.back();
    stack.pop_back();
    if (!seen.insert(n).second) continue;
    order.push_back(n);
    for (const Edge& e : n->edges) {
      if (e.node) stack.push_back(e.node.get());
    }
  }
  std::sort(order.begin(), order.end(), [](Node* a, Node* b) { return a->id > b->id; });
  return order;
}

}  // namespace

std::string to_dot(const Tensors& outputs) {
  std::string s = "digraph weft {\n  rankdir=BT;\n  node [shape=box];\n";
  std::unordered_map<Node*, int> number;
  const auto order = reachable(outputs);
  for (Node* n : order) {
    const int k = static_cast<int>(number.size());
    number[n] = k;
    s += concat("  n", k, " [label=\"", n->name);
    for (const auto& out : n->outputs) s += concat("\\n", out.shape);
    s += n->id == 0 ? "\", shape=ellipse];\n" : "\"];\n";
  }
  for (Node* n : order) {
    for (const Edge& e : n->edges) {
      if (e.node) s += concat("  n", number[e.node.get()], " -> n", number[n], ";\n");
    }
  }
  return s + "}\n";
}

int64_t graph_size(const Tensor& x) {
  const auto nodes = reachable({x});
  return std::count_if(nodes.begin(), nodes.end(), [](Node* n) { return n->id != 0; });
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
  return meta && meta->node && meta->node->id != 0 ? meta->node : nullptr;
}

Tensor Tensor::grad() const { return impl().autograd ? impl().autograd->grad : Tensor(); }
void Tensor::set_grad(const Tensor& grad) const {
  check(!grad.defined() || grad.shape() == shape(), "set_grad: the gradient has shape ",
        grad.defined() ? grad.shape() : Shape(), ", the tensor ", shape());
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
  meta.hooks.emplace_back(meta.next_hook, std::move(hook));
  return meta.next_hook++;
}

void Tensor::remove_hook(int id) const {
  if (impl().autograd) std::erase_if(impl().autograd->hooks, [id](const auto& h) { return h.first == id; });
}

void Tensor::backward(const Tensor& grad, bool retain_graph, bool create_graph) const {
  weft::backward({*this}, {grad}, retain_graph, create_graph);
}

}  // namespace weft
