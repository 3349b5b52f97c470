// Checks of gradients against finite differences, for any C++ callable.
//
//   Tensor x = randn({2, 3}, {.dtype = float64, .requires_grad = true});
//   gradcheck([](const Tensor& x) { return exp(x) * x; }, {x});
//
// Both throw weft::Error on a wrong gradient, naming the output, the input, the element, and the two numbers; with
// raise_exception off they return the message instead. docs/gradients.md says what each check is for.
#pragma once

#include <weft/autograd/autograd.h>

#include <functional>
#include <string>
#include <type_traits>
#include <vector>

namespace weft {

/// Outcome of a check: true when it passed, else with a message that says where and what.
struct CheckResult {
  bool ok = true;
  std::string message;
  double worst = 0;  ///< largest |analytic - numeric| seen, as a share of its tolerance; 0 for structure checks
  explicit operator bool() const { return ok; }
};

using TensorFn = std::function<Tensors(const Tensors&)>;

/// Wraps what users write into a TensorFn: a callable of one Tensors or of up to five Tensor arguments, that returns
/// Tensor or Tensors.
template <class F>
TensorFn as_tensor_fn(F f) {
  const auto pack = []<class R>(R&& r) -> Tensors {
    if constexpr (std::is_convertible_v<R, Tensor>)
      return {std::forward<R>(r)};
    else
      return std::forward<R>(r);
  };
  using T = const Tensor&;
  const auto need = [](const Tensors& x, size_t n) {
    check(x.size() == n, "gradcheck: the function takes ", n, " tensors, got ", x.size(), " inputs");
  };
  if constexpr (std::is_invocable_v<F, const Tensors&>) {
    return [=](const Tensors& x) { return pack(f(x)); };
  } else if constexpr (std::is_invocable_v<F, T>) {
    return [=](const Tensors& x) { return need(x, 1), pack(f(x[0])); };
  } else if constexpr (std::is_invocable_v<F, T, T>) {
    return [=](const Tensors& x) { return need(x, 2), pack(f(x[0], x[1])); };
  } else if constexpr (std::is_invocable_v<F, T, T, T>) {
    return [=](const Tensors& x) { return need(x, 3), pack(f(x[0], x[1], x[2])); };
  } else if constexpr (std::is_invocable_v<F, T, T, T, T>) {
    return [=](const Tensors& x) { return need(x, 4), pack(f(x[0], x[1], x[2], x[3])); };
  } else {
    static_assert(std::is_invocable_v<F, T, T, T, T, T>, "expected a callable of Tensors or of one to five Tensor");
    return [=](const Tensors& x) { return need(x, 5), pack(f(x[0], x[1], x[2], x[3], x[4])); };
  }
}

/// Names and defaults are those of torch.autograd.gradcheck where it has them.
struct GradcheckOptions {
  double eps = 1e-6;            ///< step of the central difference
  double atol = 1e-5;           ///< |analytic - numeric| <= atol + rtol·|numeric|
  double rtol = 1e-3;           ///< see atol
  bool raise_exception = true;  ///< throw on failure instead of returning it
  double nondet_tol = 0;        ///< by how much two runs may differ
  /// An output without upstream gradient must count as one with zeros: gradients are then none or exactly 0.
  bool check_undefined_grad = true;
  /// Compares uᵀJv for random u and v instead of every element of J: two calls an input instead of two an element. On
  /// failure every element is looked at to name the wrong one.
  bool fast_mode = false;
  /// Inputs declared stop-gradient (by position): their gradient must be none or exactly 0, whatever the values do.
  std::vector<size_t> frozen = {};
  /// Straight-through parts: a function whose finite differences the gradient of f must equal instead of f's own. Takes
  /// and returns what f does; its values may differ. For round() with a gradient of 1 it is the identity.
  TensorFn surrogate = {};
  /// gradgradcheck only: upstream gradients that it makes are not contiguous.
  bool gen_non_contig_grad_outputs = false;
};

/// Compares the gradient of every floating output of f by every input that requires one with central differences.
/// Inputs to check must be float64 and own each element once (no expanded dimension); they are varied in place and set
/// back, so f may also use them through other handles (the parameters of a module). Found too: a result or gradient
/// that changes from one run to the next, an input that f modifies, a gradient that is cut off, a backward that throws
/// or makes a gradient of the wrong shape, NaN anywhere.
CheckResult gradcheck(const TensorFn& f, const Tensors& inputs, const GradcheckOptions& options = {});

/// The same for second derivatives: gradcheck of (inputs, grad_outputs) → gradients. grad_outputs: one per floating
/// output of f, random where left out. Also compares gradients recorded for a second order with those of an ordinary
/// sweep, which may come from other kernels. With a surrogate, the second derivative must be the surrogate's.
CheckResult gradgradcheck(const TensorFn& f, const Tensors& inputs, const Tensors& grad_outputs = {},
                          const GradcheckOptions& options = {});

template <class F>
requires(!std::is_convertible_v<F, TensorFn>) CheckResult
    gradcheck(F f, const Tensors& inputs, const GradcheckOptions& options = {}) {
  return gradcheck(as_tensor_fn(std::move(f)), inputs, options);
}
template <class F>
requires(!std::is_convertible_v<F, TensorFn>) CheckResult
    gradgradcheck(F f, const Tensors& inputs, const Tensors& grad_outputs = {}, const GradcheckOptions& options = {}) {
  return gradgradcheck(as_tensor_fn(std::move(f)), inputs, grad_outputs, options);
}

}  // namespace weft
