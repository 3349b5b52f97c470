// The graph behind autograd: what the sweep walks. Users need autograd.h only.
#pragma once

#include <weft/tensor/tensor.h>

#include <utility>

namespace weft {

/// Where one input of a node came from: output `index` of `node`.
struct Edge {
  std::shared_ptr<Node> node;  // none: the input needs no gradient
  int index = 0;
  Shape shape;                     // of the input: its gradient is summed to it, which undoes broadcasting
  DType dtype = float32;           // of the input: its gradient is converted to it, which undoes casts
  std::weak_ptr<Storage> storage;  // of the input, with its version then: an input changed since must not be used
  uint32_t version = 0;
};

/// Hooks of one tensor, shared by it and by the node that it is a result of: they run also when the tensor itself is
/// gone.
struct Hooks {
  std::vector<std::pair<int, std::function<Tensor(const Tensor&)>>> list;
  int next_id = 0;
};

/// One recorded operation. Ids grow with time and an operation is recorded after its inputs, so walking nodes by
/// falling id is a topological order.
struct Node {
  uint64_t id = 0;
  const char* name = "";
  std::vector<Edge> edges;
  struct Output {
    Shape shape;
    DType dtype = float32;
    Device device;
    std::weak_ptr<Storage> storage;
    uint32_t version = 0;
    std::shared_ptr<TensorImpl> saved;  // only for backwards that take their own outputs
    std::weak_ptr<AutogradMeta> meta;   // of the tensor, for its retained gradient
    std::shared_ptr<Hooks> hooks;       // none until one is registered
  };
  std::vector<Output> outputs;
  /// dy: one per output (zeros where nothing arrived); y: the outputs where asked for; returns one per input.
  std::function<Tensors(const Tensors& dy, const Tensors& y)> backward;
  bool wants_outputs = false;
  int64_t joins_along = -1;  // the dimension that the outputs' gradients will be joined along, see detail::will_join
  bool done = false;         // swept without retain_graph: its closure is gone
  bool anchor = false;       // stands for what a checkpointed function uses besides its inputs
  std::weak_ptr<TensorImpl> leaf;  // set for the node that stands for a leaf: where its gradient goes

  Node() = default;
  ~Node();  // takes long chains apart without recursion
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
};

struct AutogradMeta {
  bool requires_grad = false;
  bool retain_grad = false;
  Tensor grad;
  std::shared_ptr<Node> node;  // made by this operation, or (for a leaf) standing for it
  int index = 0;
  std::shared_ptr<Hooks> hooks;
};

/// The node whose output x is, made on demand for a leaf; none where x needs no gradient.
std::shared_ptr<Node> gradient_node(const Tensor& x);

/// The id that the next recorded operation gets.
uint64_t next_node_id();

/// Waits for the device.
bool has_nan(const Tensor& x);

/// For the closure of a checkpointed function that has run again, inside a sweep: y, its result, gets dy. Returns the
/// gradients of x. What the function uses besides gets its gradients as that sweep gives them: in .grad(), or handed
/// over. Operations recorded before `since` are not to be reached.
Tensors backward_inside(const Tensor& y, const Tensor& dy, const Tensors& x, uint64_t since);

}  // namespace weft
