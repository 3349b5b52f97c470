// What an optimiser does to many tensors at once: one kernel call for all of a model's parameters. These write in
// place, unrecorded, and raise the versions of what they write.
#pragma once

#include <weft/tensor/tensor.h>

#include <functional>

namespace weft {

/// Gradients that are to count as clip_ would leave them, but are not written to: times min(1, max_norm / (norm +
/// 1e-6)). Without a norm they count as they are.
struct ClipByNorm {
  Tensor norm = {};
  double max_norm = 0;
};

struct AdamArgs {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool decoupled = false;  ///< weight decay as in AdamW (param *= 1 - lr·decay) rather than added to the gradient
  int64_t step = 1;        ///< this step's number, from 1: corrects the bias of the averages
  /// Asked before each replay of a captured call (cuda/graph.h), for lr, weight_decay and step; none: they stay.
  std::function<AdamArgs()> next = {};
  ClipByNorm clip = {};
};
/// m ← β₁m + (1-β₁)g, v ← β₂v + (1-β₂)g², p ← p - lr · m̂ / (√v̂ + eps). All lists are of one length, shapes equal one by
/// one; m and v are float32 (float64 for float64 parameters). Source: arXiv:1412.6980, arXiv:1711.05101; arithmetic as
/// PyTorch's.
void adam_(const Tensors& params, const Tensors& grads, const Tensors& m, const Tensors& v, const AdamArgs& args);

struct SgdArgs {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;
  bool first = false;                  ///< the first step: the momentum starts as the gradient itself
  std::function<SgdArgs()> next = {};  ///< as Adam's, for lr and first
  ClipByNorm clip = {};
};
/// g ← g + decay·p, b ← momentum·b + (1-dampening)·g, p ← p - lr·(nesterov ? g + momentum·b : b). buffers may be empty
/// without momentum.
void sgd_(const Tensors& params, const Tensors& grads, const Tensors& buffers, const SgdArgs& args);

/// Σ over all tensors of Σ x², as a float32 scalar (float64 if any is); summed in an order that does not depend on
/// threads. non_differentiable
Tensor sum_squares(const Tensors& xs);
/// Every x ← x · min(1, max_norm / (norm + 1e-6)) where norm is a scalar tensor on the same device. non_differentiable
void clip_(const Tensors& xs, const Tensor& norm, double max_norm);
/// Every x ← min(max(x, -limit), limit).
void clip_value_(const Tensors& xs, double limit);
/// Every average ← decay·average + (1-decay)·x.
void ema_(const Tensors& averages, const Tensors& xs, double decay);

}  // namespace weft
