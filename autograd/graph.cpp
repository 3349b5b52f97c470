// Looking at the graph.
#include <weft/autograd/autograd.h>
#include <weft/autograd/node.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace weft {

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

}  // namespace weft
