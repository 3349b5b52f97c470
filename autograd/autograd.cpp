#include <weft/autograd/autograd.h>
#include <weft/autograd/node.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/matmul.h>
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
    out.hooks = meta->hooks;
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
        const bool is_input = std::any_of(inputs.begin(), inputs.end(), [&](const Tensor& x) { return x.same_as(y); });
        const bool shared = is_input || y.impl_ptr().use_count() > 2 || y.impl().autograd;
        auto impl = shared ? std::make_shared<TensorImpl>(y.impl()) : y.impl_ptr();
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

class Sweep;
thread_local Sweep* t_sweep = nullptr;  // the innermost that runs on this thread

class Sweep {
 public:
  /// since: operations recorded before this id are not to be reached (a checkpointed function's own sweep).
  Sweep(const Tensors& outputs, const Tensors& grad_outputs, bool retain, bool create, uint64_t since = 0)
      : retain_(retain || create), create_(create), since_(since) {
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
    capture(node, x.impl().autograd->index);
  }
  void capture(const std::shared_ptr<Node>& node, int index) {
    captured_.push_back({node, index, Tensor()});
    wanted_.insert(node.get());
  }
  /// From here on gradients are handed over, and none is added to .grad(), even where nothing was captured.
  void hand_over() { capturing_ = true; }

  /// Output `index` of node gets a gradient: the place that node would like it in, once; else undefined.
  Tensor take_room(Node& node, int index) {
    if (!node.make_room) return {};
    Tensors& room = rooms_[&node];
    if (room.empty()) room = node.make_room();
    return std::exchange(room[static_cast<size_t>(index)], Tensor());
  }

  void run() {
    if (capturing_) mark_needed();
    GradMode mode(create_);
    struct Current {
      Sweep* before = t_sweep;
      ~Current() { t_sweep = before; }
    } current;
    t_sweep = this;
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

  /// The sweep of a checkpointed function that ran again, inside this one: y, its result, gets dy. Returns the
  /// gradients of x. What f uses besides x gets its gradients as this sweep gives them: in .grad(), or handed over.
  Tensors run_inner(const Tensor& y, const Tensor& dy, const Tensors& x, uint64_t since) {
    Sweep inner({y}, {dy}, false, false, since);
    if (!capturing_) {
      inner.run();
      Tensors out;
      for (const Tensor& t : x) out.push_back(t.defined() ? t.grad() : Tensor());
      return out;
    }
    std::vector<Capture*> leaves;
    Tensors out(x.size());
    for (const Tensor& t : x) {
      if (t.defined() && t.requires_grad()) inner.capture(t);
    }
    for (auto& c : captured_) {
      if (c.node->id == 0) leaves.push_back(&c), inner.capture(c.node, c.index);
    }
    inner.hand_over();
    inner.run();
    size_t k = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      if (x[i].defined() && x[i].requires_grad()) out[i] = inner.captured_[k++].grad;
    }
    for (Capture* c : leaves) {
      if (const Tensor& g = inner.captured_[k++].grad; g.defined()) add_in(c->grad, g);
    }
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
    check(dy.device() == y.device(), "backward: the gradient is on ", dy.device(), ", the output on ", y.device());
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
      check(node->id == 0 || node->id >= since_, "checkpoint: the function uses the result of ", node->name,
            " from outside; pass it as an input");
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
      bool needed = n->anchor || wanted_.count(n) > 0;
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
      if (c.node != node) continue;
      if (const Tensor& g = dy[static_cast<size_t>(c.index)]; g.defined()) add_in(c.grad, g);
    }
    if (node->id == 0) return finish_leaf(*node, dy[0]);
    if (capturing_ && !std::any_of(node->edges.begin(), node->edges.end(),
                                   [&](const Edge& e) { return e.node && needed_.count(e.node.get()); })) {
      return;
    }
    Tensors dx = call(node, dy);
    rooms_.erase(node.get());
    for (size_t i = 0; i < dx.size(); ++i) {
      const Edge& edge = node->edges[i];
      if (!edge.node || !dx[i].defined()) continue;
      if (capturing_ && !needed_.count(edge.node.get())) continue;
      if (t_anomaly)
        check(!has_nan(dx[i]), node->name, ": made a NaN in its backward pass, in the gradient of input ", i);
      // A closure may hand out a tensor it captured: outside of a recorded sweep its history must not come along.
      const Tensor& g = dx[i];
      deliver(edge, fit(!create_ && g.requires_grad() ? g.detach() : g, edge, node->name));
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
    Tensors dx = run_closure(*node, dy, y);
    check(dx.size() == node->edges.size(), node->name, ": backward returned ", dx.size(), " gradients for ",
          node->edges.size(), " inputs");
    return dx;
  }

  // A NaN made on the way is this operation's backward's, not that of the ops it is written in; a checkpointed function
  // that runs again names its own.
  static Tensors run_closure(const Node& node, const Tensors& dy, const Tensors& y) {
    struct Restore {
      bool before = t_anomaly;
      ~Restore() { t_anomaly = before; }
    } restore;
    const auto& e = node.edges;
    t_anomaly =
        t_anomaly && std::any_of(e.begin(), e.end(), [](const Edge& edge) { return edge.node && edge.node->anchor; });
    return node.backward(dy, y);
  }

  void apply_hooks(Node& node, Tensors& dy) {
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      const auto& out = node.outputs[i];
      if (!dy[i].defined()) continue;
      if (out.hooks) {
        for (const auto& [id, hook] : Hooks(*out.hooks).list) {  // a copy: a hook may remove itself
          const Tensor g = hook(dy[i]);
          if (!g.defined()) continue;
          check(g.shape() == out.shape && g.dtype() == out.dtype, "hook of ", node.name, ": returned ", g.dtype(), " ",
                g.shape(), " as the gradient of ", out.dtype, " ", out.shape);
          dy[i] = g;
        }
      }
      if (auto meta = out.meta.lock(); meta && meta->retain_grad && !capturing_) meta->grad = dy[i];
    }
  }

  void finish_leaf(Node& node, const Tensor& g) {
    if (capturing_) return;
    if (auto impl = node.leaf.lock(); impl && impl->autograd) {
      Tensor& grad = impl->autograd->grad;
      // A gradient that nobody else holds may be the tensor itself; a view, or one shared with another result, may not:
      // clipping and scaling write into gradients in place.
      // Nor may a part of a larger buffer, which would stay as long as the gradient does.
      const bool own = g.is_contiguous() && g.impl_ptr().use_count() == 1 && g.impl().storage.use_count() == 1 &&
                       g.impl().storage->bytes() <= 2 * static_cast<size_t>(g.numel()) * size_of(g.dtype()) + 64;
      grad = grad.defined() ? add(grad, g) : create_ || own ? g : g.clone();
    }
  }

  const bool retain_, create_;
  const uint64_t since_;
  bool capturing_ = false;
  std::vector<std::shared_ptr<Node>> roots_, order_;
  std::unordered_map<Node*, Tensors> grads_, rooms_;
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
  sweep.hand_over();
  sweep.run();
  Tensors out = sweep.captured();
  for (size_t i = 0; i < out.size(); ++i) {
    check(out[i].defined() || options.allow_unused, "grad: input ", i, " of shape ", inputs[i].shape(),
          " was not used by the outputs; pass allow_unused if that is meant");
  }
  return out;
}

// --- checkpointing ---------------------------------------------------------------------------------------------------

namespace {

// Sets this thread's default generator to a state for a scope.
class GeneratorAt {
 public:
  explicit GeneratorAt(Generator::State state) : before_(default_generator().state()) {
    default_generator().set_state(state);
  }
  ~GeneratorAt() { default_generator().set_state(before_); }
  GeneratorAt(const GeneratorAt&) = delete;
  GeneratorAt& operator=(const GeneratorAt&) = delete;

 private:
  Generator::State before_;
};

}  // namespace

Tensor checkpoint(const std::function<Tensor(const Tensors&)>& f, const Tensors& inputs) {
  const auto generator_state = default_generator().state();
  const bool autocast = Autocast::active();
  const DType autocast_dtype = Autocast::dtype();
  Tensor out;
  {
    NoGrad guard;
    out = f(inputs);
  }
  if (!grad_enabled()) return out;
  // Parameters inside f are not among the inputs, so the result is recorded even where no input needs a gradient: an
  // anchor stands for them.
  Tensor anchor = zeros({}, {.requires_grad = true});
  gradient_node(anchor)->anchor = true;
  Tensors recorded = inputs;
  recorded.push_back(anchor);
  return record("checkpoint", out.detach(), recorded, [=](const Tensor& dy) -> Grads {
    check(!grad_enabled(), "checkpoint: has no second derivative; call without create_graph");
    Tensors fresh;
    for (const Tensor& x : inputs) {
      fresh.push_back(!x.defined() ? x : x.detach());
      if (x.defined() && x.requires_grad()) fresh.back().requires_grad_();
    }
    const uint64_t since = g_next_id.load(std::memory_order_relaxed);
    Tensor y;
    {
      EnableGrad guard;
      GeneratorAt repeat(generator_state);
      Autocast scope(autocast ? autocast_dtype : bfloat16, autocast);
      y = f(fresh);
    }
    check(y.shape() == dy.shape(), "checkpoint: the function gave ", dy.shape(), " first and ", y.shape(),
          " when run again");
    Grads g(inputs.size());
    if (y.requires_grad()) g = t_sweep->run_inner(y, dy, fresh, since);
    g.emplace_back();  // of the anchor
    return g;
  });
}

// --- where gradients lie ---------------------------------------------------------------------------------------------

void detail::offer_room(const Tensors& outputs, std::function<Tensors()> make) {
  if (!outputs.empty() && outputs[0].impl().autograd)
    outputs[0].impl().autograd->node->make_room = std::move(make);
}

Tensor detail::gradient_like(const Tensor& x) {
  const auto& meta = x.impl().autograd;
  const Tensor room = t_sweep && meta && meta->node ? t_sweep->take_room(*meta->node, meta->index) : Tensor();
  return room.defined() ? room : empty_like(x);
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

void Tensor::backward(const Tensor& grad, bool retain_graph, bool create_graph) const {
  weft::backward({*this}, {grad}, retain_graph, create_graph);
}

}  // namespace weft
