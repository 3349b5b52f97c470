// Reverse-mode automatic differentiation.
//
// An operation computes its result, then calls record() with its inputs and a closure that maps the gradient of the
// result to the gradients of the inputs. The closure is made of ops, so it can be recorded in its turn: second and
// higher orders need nothing else.
#pragma once

#include <weft/tensor/tensor.h>

#include <type_traits>

namespace weft {

/// Gradients by input; an undefined tensor means that none flows there.
using Grads = Tensors;

/// Whether ops record what they do on this thread (true at the start).
bool grad_enabled();

/// Switches recording off (or on) for a scope, on this thread.
class GradMode {
 public:
  explicit GradMode(bool enabled);
  ~GradMode();
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  bool before_;
};
struct NoGrad : GradMode {
  NoGrad() : GradMode(false) {}
};
struct EnableGrad : GradMode {
  EnableGrad() : GradMode(true) {}
};

/// Whether results and gradients are searched for NaN on this thread (false at the start).
bool anomaly_enabled();

/// While alive on this thread, every recorded result and every gradient is searched for NaN; the error names the op.
/// enabled false: none is, within the scope of another.
class AnomalyMode {
 public:
  explicit AnomalyMode(bool enabled = true);
  ~AnomalyMode();
  AnomalyMode(const AnomalyMode&) = delete;
  AnomalyMode& operator=(const AnomalyMode&) = delete;

 private:
  bool before_;
};

namespace detail {
using BackwardFn = std::function<Tensors(const Tensors& dy, const Tensors& y)>;
bool must_record(const Tensors& inputs);
void record(const char* name, Tensors& outputs, const Tensors& inputs, BackwardFn backward, bool wants_outputs);

/// Says that the operation that made parts, recorded or not, will join their gradients along dim: gradient_like() then
/// gives places beside each other. It has to take gradients that lie elsewhere all the same.
void will_join(const Tensors& parts, int64_t dim);
/// An uninitialised tensor for the gradient of x: of its shape, dtype and device, and where the operation that made x
/// would like it. Such a place is given once in a sweep.
Tensor gradient_like(const Tensor& x);

// Wraps any accepted form of closure into the one that the graph stores.
template <class F>
BackwardFn wrap_backward(F&& f) {
  using Fn = std::decay_t<F>;
  if constexpr (std::is_invocable_v<Fn, const Tensors&, const Tensors&>) {
    return std::forward<F>(f);
  } else if constexpr (std::is_invocable_v<Fn, const Tensor&, const Tensor&>) {
    return [f = std::forward<F>(f)](const Tensors& dy, const Tensors& y) { return f(dy[0], y[0]); };
  } else if constexpr (std::is_invocable_v<Fn, const Tensors&>) {
    return [f = std::forward<F>(f)](const Tensors& dy, const Tensors&) { return f(dy); };
  } else {
    return [f = std::forward<F>(f)](const Tensors& dy, const Tensors&) { return f(dy[0]); };
  }
}
template <class F>
constexpr bool wants_outputs = std::is_invocable_v<std::decay_t<F>, const Tensor&, const Tensor&> ||
                               std::is_invocable_v<std::decay_t<F>, const Tensors&, const Tensors&>;
}  // namespace detail

/// Enters an operation into the graph, if gradients are enabled and an input needs one, and returns its output.
///
///   return record("exp", y, {x}, [](const Tensor& dy, const Tensor& y) -> Grads { return {mul(dy, y)}; });
///
/// backward takes the gradient of the output, returns one gradient per input (undefined: none), and may capture what
/// it needs. An operation that needs its own output asks for it as a second argument instead of capturing it: a
/// captured output would keep itself alive, and a detached one would lose its second derivative. Gradients may have a
/// shape that the input broadcasts to and another float dtype: the sweep sums and converts. output must be a fresh
/// tensor (a view of an input is fine), not an input itself.
template <class F>
Tensor record(const char* name, const Tensor& output, const Tensors& inputs, F&& backward) {
  if (!detail::must_record(inputs)) return output;
  Tensors outputs{output};
  detail::record(name, outputs, inputs, detail::wrap_backward(std::forward<F>(backward)), detail::wants_outputs<F>);
  return outputs[0];
}

/// The same for several outputs; backward takes their gradients as a vector (zeros where none arrived). Outputs that
/// are not floating take no part.
template <class F>
Tensors record(const char* name, Tensors outputs, const Tensors& inputs, F&& backward) {
  if (!detail::must_record(inputs)) return outputs;
  detail::record(name, outputs, inputs, detail::wrap_backward(std::forward<F>(backward)), detail::wants_outputs<F>);
  return outputs;
}

/// Adds the gradients of outputs to .grad() of every leaf that led to them. grad_outputs: one per output, undefined for
/// a scalar (taken as 1). Unless retain_graph, the graph is taken apart and a second sweep throws. With create_graph
/// the gradients are recorded themselves.
void backward(const Tensors& outputs, const Tensors& grad_outputs = {}, bool retain_graph = false,
              bool create_graph = false);

struct GradOptions {
  bool retain_graph = false;  ///< implied by create_graph
  bool create_graph = false;
  bool allow_unused = false;  ///< an input that outputs do not depend on gets an undefined gradient instead of an error
};
/// d(sum of outputs·grad_outputs) / d(inputs), leaving every .grad() alone. Inputs may be leaves or not. Gradients of
/// results that are not leaves may share memory: clone one before writing into it (so for retain_grad() too).
Tensors grad(const Tensors& outputs, const Tensors& inputs, const Tensors& grad_outputs = {}, GradOptions options = {});

/// Runs f(inputs) without keeping its intermediate results; the backward sweep runs it again (with the thread's default
/// generator and Autocast as they were, so that dropout repeats). Parameters that f uses get their gradients too, from
/// backward() and from grad(); the result of an operation must come as an input, not from outside. Once differentiable.
/// Source: Chen et al., arXiv:1604.06174.
Tensor checkpoint(const std::function<Tensor(const Tensors&)>& f, const Tensors& inputs);

/// The graph behind outputs in Graphviz's language: one box an operation, one ellipse a leaf.
std::string to_dot(const Tensors& outputs);

/// The number of operations in the graph behind x.
int64_t graph_size(const Tensor& x);

}  // namespace weft
