// The sweep from outputs to leaves.
#include <weft/autograd/autograd.h>
#include <weft/autograd/node.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/reduce.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace weft {

namespace {

Tensor with_graph(const std::shared_ptr<TensorImpl>& data, const std::shared_ptr<Node>& node, int index) {
  auto impl = std::make_shared<TensorImpl>(*data);
  impl->autograd = std::make_shared<AutogradMeta>();
  impl->autograd->requires_grad = true;
  impl->autograd->node = node;
  impl->autograd->index = index;
  return Tensor(std::move(impl));
}

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

// One buffer for the gradients of all outputs, in parts as they are.
Tensors room_for(const Node& node) {
  const int64_t dim = node.joins_along;
  const Node::Output& first = node.outputs[0];
  Shape whole = first.shape;
  whole[dim] = 0;
  for (const Node::Output& out : node.outputs) whole[dim] += out.shape[dim];
  const Tensor room = empty(whole, first.dtype, first.device);
  Tensors parts;
  int64_t at = 0;
  for (const Node::Output& out : node.outputs) {
    parts.push_back(as_strided_raw(room, out.shape, room.strides(), at * room.strides()[dim]));
    at += out.shape[dim];
  }
  return parts;
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

  /// Output `index` of node gets a gradient: its place in the buffer of all of them, once; undefined where node does
  /// not join them, or its backward will not run.
  Tensor take_room(const Node& node, int index) {
    if (node.joins_along < 0 || !goes_on(node)) return {};
    Tensors& room = rooms_[&node];
    if (room.empty()) room = room_for(node);
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

  /// backward_inside() this sweep.
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

  // Whether anything behind node is asked for.
  bool goes_on(const Node& node) const {
    return !capturing_ || std::any_of(node.edges.begin(), node.edges.end(),
                                      [&](const Edge& e) { return e.node && needed_.count(e.node.get()); });
  }

  void visit(const std::shared_ptr<Node>& node, Tensors& dy) {
    apply_hooks(*node, dy);
    for (auto& c : captured_) {
      if (c.node != node) continue;
      if (const Tensor& g = dy[static_cast<size_t>(c.index)]; g.defined()) add_in(c.grad, g);
    }
    if (node->id == 0) return finish_leaf(*node, dy[0]);
    if (!goes_on(*node)) return;
    Tensors dx = call(node, dy);
    rooms_.erase(node.get());
    for (size_t i = 0; i < dx.size(); ++i) {
      const Edge& edge = node->edges[i];
      if (!edge.node || !dx[i].defined()) continue;
      if (capturing_ && !needed_.count(edge.node.get())) continue;
      if (anomaly_enabled())
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
    const AnomalyMode mode(anomaly_enabled() && std::any_of(node.edges.begin(), node.edges.end(), [](const Edge& edge) {
                             return edge.node && edge.node->anchor;
                           }));
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
      // A gradient that nobody else holds may be the tensor itself. A view, or one shared with another result, may not:
      // clipping and scaling write into gradients in place. Nor may a part of a larger buffer, which would stay as long
      // as the gradient does.
      const bool own = g.is_contiguous() && g.impl_ptr().use_count() == 1 && g.impl().storage.use_count() == 1 &&
                       g.impl().storage->bytes() <= 2 * static_cast<size_t>(g.numel()) * size_of(g.dtype()) + 64;
      grad = grad.defined() ? add(grad, g) : create_ || own ? g : g.clone();
    }
  }

  const bool retain_, create_;
  const uint64_t since_;
  bool capturing_ = false;
  std::vector<std::shared_ptr<Node>> roots_, order_;
  std::unordered_map<Node*, Tensors> grads_;
  std::unordered_map<const Node*, Tensors> rooms_;
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

void Tensor::backward(const Tensor& grad, bool retain_graph, bool create_graph) const {
  weft::backward({*this}, {grad}, retain_graph, create_graph);
}

Tensors backward_inside(const Tensor& y, const Tensor& dy, const Tensors& x, uint64_t since) {
  return t_sweep->run_inner(y, dy, x, since);
}

// --- where gradients lie ---------------------------------------------------------------------------------------------

void detail::will_join(const Tensors& parts, int64_t dim) {
  if (!parts.empty() && parts[0].impl().autograd) parts[0].impl().autograd->node->joins_along = dim;
}

Tensor detail::gradient_like(const Tensor& x) {
  const auto& meta = x.impl().autograd;
  const Tensor room = t_sweep && meta && meta->node ? t_sweep->take_room(*meta->node, meta->index) : Tensor();
  return room.defined() ? room : empty_like(x);
}

}  // namespace weft
