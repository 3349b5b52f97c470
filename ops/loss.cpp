#include <weft/autograd/autograd.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/loss_op.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>
#include <weft/ops/softmax.h>

namespace weft {

using detail::check_cross_entropy;
using detail::guarded;

namespace {

DType compute_type(const Tensor& x) { return detail::loss_dtype(x); }

// Classes last: [n, c, d...] -> [n, d..., c].
Tensor classes_last(const Tensor& x) { return x.dim() <= 2 ? x : movedim(x, 1, -1); }

void check_classes(const char* name, const Tensor& x, const Tensor& target, const CrossEntropyOptions& o) {
  check(x.is_floating(), name, ": expected floating logits, got ", x.dtype());
  check(x.dim() >= 1, name, ": expected logits [c], [n, c] or [n, c, ...], got ", x.shape());
  const int64_t axis = x.dim() == 1 ? 0 : 1;
  check_cross_entropy(name, x.size(axis), o);
  check_same_device(name, {&x, &target, &o.weight});
  if (target.is_floating()) return;
  check(target.dtype() == int64, name, ": expected an int64 target, got ", target.dtype());
  Shape rows = x.shape();
  rows.erase(axis);
  check(target.shape() == rows, name, ": logits ", x.shape(), " need a target ", rows, ", got ", target.shape());
}

Tensor reduce_loss(const Tensor& loss, Reduction reduction, const char* name) {
  check(reduction != Reduction::batch_mean, name, ": batch_mean is for kl_div");
  return reduction == Reduction::none ? loss : reduction == Reduction::sum ? sum(loss) : mean(loss);
}

// [r, c] with 1 at each row's target, and nothing in ignored rows.
Tensor one_hot_rows(const Tensor& target, int64_t classes, int64_t ignore_index, DType dtype) {
  const Tensor hot = eq(unsqueeze(target, -1), arange(classes).to(target.device()));
  return logical_and(hot, ne(unsqueeze(target, -1), ignore_index)).to(dtype);
}

// Target classes by row, the smoothed distribution times the class weights: what -log p is multiplied by. [r, c]
Tensor target_weights(const Tensor& target, int64_t classes, const CrossEntropyOptions& o, DType dtype) {
  const Tensor counted = unsqueeze(ne(target, o.ignore_index), -1).to(dtype);
  Tensor q = mul(one_hot_rows(target, classes, o.ignore_index, dtype), 1 - o.label_smoothing);
  if (o.label_smoothing > 0) q = add(q, mul(counted, o.label_smoothing / static_cast<double>(classes)));
  return o.weight.defined() ? mul(q, o.weight.detach().to(dtype)) : q;
}

}  // namespace

Tensor detail::guarded(const Tensor& total) { return where(eq(total, 0), Scalar(1.0), total); }

Tensor detail::cross_entropy_gradient(const Tensor& x, const Tensor& target, const CrossEntropyOptions& o,
                                      const Tensor& scale) {
  const DType c = loss_dtype(x);
  const int64_t classes = x.size(-1);
  const Tensor q = target_weights(target, classes, o, c);
  const Tensor p = softmax(reshape(x, {-1, classes}).to(c), -1);
  return reshape(mul(unsqueeze(scale, -1), sub(mul(p, sum(q, -1, keepdim)), q)), x.shape());
}

void detail::check_cross_entropy(const char* op, int64_t classes, const CrossEntropyOptions& o) {
  check(o.reduction != Reduction::batch_mean, op, ": batch_mean is for kl_div");
  check(o.label_smoothing >= 0 && o.label_smoothing <= 1, op, ": label_smoothing must be in [0, 1], got ",
        o.label_smoothing);
  check(!o.weight.defined() || (o.weight.shape() == Shape{classes} && o.weight.is_floating()), op,
        ": expected a floating weight of shape [", classes, "]");
}

namespace {

// x: [..., c], target: [r] -> a loss a row.
Tensor fused(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& o) {
  const Tensor x = classes_last(logits).contiguous(), t = reshape(target, {target.numel()}).contiguous();
  const Tensor weight = o.weight.defined() ? o.weight.detach() : Tensor();
  const DType c = compute_type(x);
  const int64_t rows = t.numel();
  Tensor loss = empty({rows}, c, x.device()), row_weight = empty({rows}, c, x.device());
  Tensor lse = empty({rows}, c, x.device());
  WEFT_KERNEL(x.device(), cross_entropy, x, t, weight, o.ignore_index, o.label_smoothing, loss, row_weight, lse);
  Tensor total;  // what the mean divides by
  if (o.reduction == Reduction::none) {
    loss = reshape(loss, target.shape());
  } else {
    loss = sum(loss);
    if (o.reduction == Reduction::mean) total = guarded(sum(row_weight)), loss = div(loss, total);
  }
  return record("cross_entropy", loss.to(x.dtype()), {x}, [x, t, weight, o, lse, total](const Tensor& dy) -> Grads {
    const Tensor upstream = reshape(dy, {dy.numel()}).to(lse.dtype());  // [r] or [1]
    const Tensor scale = total.defined() ? div(upstream, total) : upstream;
    if (grad_enabled()) return {detail::cross_entropy_gradient(x, t, o, scale)};
    Tensor dx = empty_like(x);
    WEFT_KERNEL(x.device(), cross_entropy_backward, x, t, weight, o.ignore_index, o.label_smoothing, lse,
                scale.contiguous(), dx);
    return {dx};
  });
}

// -Σ target · log p, with the target smoothed: of log-probabilities [..., c] and probabilities of the same shape.
Tensor soft_targets(const Tensor& log_probs, const Tensor& target, const CrossEntropyOptions& o) {
  Tensor q = target;
  if (o.label_smoothing > 0) {
    q = add(mul(q, 1 - o.label_smoothing), o.label_smoothing / static_cast<double>(log_probs.size(-1)));
  }
  if (o.weight.defined()) q = mul(q, o.weight.detach());
  const Tensor loss = neg(sum(mul(q, log_probs), -1));
  if (o.reduction != Reduction::mean) return reduce_loss(loss, o.reduction, "cross_entropy");
  return loss.numel() == 0 ? sum(loss) : mean(loss);
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options) {
  check_classes("cross_entropy", logits, target, options);
  if (!target.is_floating()) return fused(logits, target, options);
  check(target.shape() == logits.shape(), "cross_entropy: logits ", logits.shape(),
        " need probabilities of the same shape, got ", target.shape());
  const DType c = compute_type(logits);
  return soft_targets(log_softmax(classes_last(logits).to(c), -1), classes_last(target).to(c), options)
      .to(logits.dtype());
}

Tensor cross_entropy_(Tensor&& logits, const Tensor& target, const CrossEntropyOptions& o) {
  check_classes("cross_entropy_", logits, target, o);
  Tensor x = std::move(logits);
  const Storage& memory = *x.impl().storage;
  const bool nobody_else = x.impl_ptr().use_count() == 1 && x.impl().storage.use_count() == 1 && !memory.read_only();
  if (!grad_enabled() || !x.requires_grad() || x.is_leaf() || !nobody_else || x.dim() != 2 || !x.is_contiguous() ||
      target.is_floating() || o.reduction == Reduction::none || x.dtype() == float16) {
    return cross_entropy(x, target, o);
  }
  const DType c = compute_type(x);
  const Tensor t = target.contiguous(), weight = o.weight.defined() ? o.weight.detach() : Tensor();
  Tensor row_weight = empty({t.numel()}, c, x.device()), loss = empty({t.numel()}, c, x.device());
  WEFT_KERNEL(x.device(), row_weights, "cross_entropy_", t, weight, o.ignore_index, x.size(1), row_weight);
  const Tensor total = o.reduction == Reduction::mean ? guarded(sum(row_weight)) : Tensor();
  const Tensor one = ones({1}, {.dtype = c, .device = x.device()});
  auto gradient = std::make_shared<Tensor>(x.detach());  // of the upstream gradient 1, until a sweep takes it
  WEFT_KERNEL(x.device(), cross_entropy_over, *gradient, t, weight, o.ignore_index, o.label_smoothing,
              total.defined() ? div(one, total) : one, loss);
  loss = total.defined() ? div(sum(loss), total) : sum(loss);
  return record("cross_entropy_", loss.to(x.dtype()), {x}, [gradient, c](const Tensor& dy) -> Grads {
    check(!grad_enabled(),
          "cross_entropy_: the logits have given their place to the gradient, so that there is no "
          "second order; use cross_entropy");
    check(gradient->defined(), "cross_entropy_: an earlier sweep has taken the gradient; use cross_entropy");
    Tensor dx = std::exchange(*gradient, Tensor());
    WEFT_KERNEL(dx.device(), scale_over, dx, reshape(dy, {1}).to(c));
    return {dx};
  });
}

Tensor nll_loss(const Tensor& log_probs, const Tensor& target, const CrossEntropyOptions& options) {
  check_classes("nll_loss", log_probs, target, options);
  check(options.label_smoothing == 0, "nll_loss: label_smoothing is for cross_entropy");
  check(target.dtype() == int64, "nll_loss: expected an int64 target, got ", target.dtype());
  const DType c = compute_type(log_probs);
  const Tensor x = classes_last(log_probs).to(c);
  const int64_t classes = x.size(-1);
  Tensor row_weight = empty({target.numel()}, c, x.device());
  WEFT_KERNEL(x.device(), row_weights, "nll_loss", target.contiguous(), Tensor(), options.ignore_index, classes,
              row_weight);
  const Tensor hot = one_hot_rows(target, classes, options.ignore_index, c);  // [..., c]
  const Tensor q = options.weight.defined() ? mul(hot, options.weight.detach().to(c)) : hot;
  const Tensor loss = neg(sum(mul(q, where(gt(hot, 0), x, 0.0)), -1));
  if (options.reduction == Reduction::none) return loss.to(log_probs.dtype());
  const Tensor s = sum(loss);
  return (options.reduction == Reduction::sum ? s : div(s, guarded(sum(q)))).to(log_probs.dtype());
}

namespace {

// input - target, after the checks that the losses below share.
void check_pair(const char* name, const Tensor& input, const Tensor& target) {
  check(input.is_floating(), name, ": expected a floating input, got ", input.dtype());
  check(input.shape() == target.shape(), name, ": input ", input.shape(), " and target ", target.shape(),
        " differ in shape");
}
Tensor difference(const char* name, const Tensor& input, const Tensor& target) {
  check_pair(name, input, target);
  const DType c = compute_type(input);
  return sub(input.to(c), target.to(c));
}

}  // namespace

Tensor mse_loss(const Tensor& input, const Tensor& target, Reduction reduction) {
  return reduce_loss(square(difference("mse_loss", input, target)), reduction, "mse_loss").to(input.dtype());
}

Tensor l1_loss(const Tensor& input, const Tensor& target, Reduction reduction) {
  return reduce_loss(abs(difference("l1_loss", input, target)), reduction, "l1_loss").to(input.dtype());
}

Tensor smooth_l1_loss(const Tensor& input, const Tensor& target, double beta, Reduction reduction) {
  check(beta >= 0, "smooth_l1_loss: beta must not be negative, got ", beta);
  if (beta == 0) return l1_loss(input, target, reduction);
  const Tensor d = abs(difference("smooth_l1_loss", input, target));
  const Tensor loss = where(lt(d, beta), mul(square(d), 0.5 / beta), sub(d, 0.5 * beta));
  return reduce_loss(loss, reduction, "smooth_l1_loss").to(input.dtype());
}

Tensor huber_loss(const Tensor& input, const Tensor& target, double delta, Reduction reduction) {
  check(delta > 0, "huber_loss: delta must be positive, got ", delta);
  const Tensor d = abs(difference("huber_loss", input, target));
  const Tensor loss = where(lt(d, delta), mul(square(d), 0.5), mul(sub(d, 0.5 * delta), delta));
  return reduce_loss(loss, reduction, "huber_loss").to(input.dtype());
}

namespace {

Tensor limited_log(const Tensor& x) { return clamp_min(log(x), -100); }

// The gradient is written out, for that of a limited logarithm would be 0·inf at probabilities 0 and 1.
Tensor bernoulli_loss(const Tensor& p, const Tensor& t) {
  Tensor loss;
  {
    NoGrad values;
    loss = neg(add(mul(t, limited_log(p)), mul(sub(1, t), limited_log(sub(1, p)))));
  }
  return record("binary_cross_entropy", loss, {p, t}, [p, t, needs_t = t.requires_grad()](const Tensor& dy) -> Grads {
    const Tensor spread = clamp_min(mul(p, sub(1, p)), 1e-12);
    return {div(mul(dy, sub(p, t)), spread), needs_t ? mul(dy, sub(limited_log(sub(1, p)), limited_log(p))) : Tensor()};
  });
}

}  // namespace

Tensor binary_cross_entropy(const Tensor& input, const Tensor& target, const Tensor& weight, Reduction reduction) {
  check_pair("binary_cross_entropy", input, target);
  const DType c = compute_type(input);
  Tensor loss = bernoulli_loss(input.to(c), target.to(c));
  if (weight.defined()) loss = mul(loss, weight.to(c));
  return reduce_loss(loss, reduction, "binary_cross_entropy").to(input.dtype());
}

// With w = 1 + (pos_weight - 1)·target: (1 - target)·x + w·log(1 + e^-x).
Tensor binary_cross_entropy_with_logits(const Tensor& logits, const Tensor& target, const Tensor& weight,
                                        const Tensor& pos_weight, Reduction reduction) {
  check_pair("binary_cross_entropy_with_logits", logits, target);
  const DType c = compute_type(logits);
  const Tensor x = logits.to(c), t = target.to(c);
  Tensor tail = softplus(neg(x));
  if (pos_weight.defined()) tail = mul(tail, add(mul(sub(pos_weight.to(c), 1), t), 1));
  Tensor loss = add(mul(sub(1, t), x), tail);
  if (weight.defined()) loss = mul(loss, weight.to(c));
  return reduce_loss(loss, reduction, "binary_cross_entropy_with_logits").to(logits.dtype());
}

Tensor kl_div(const Tensor& input, const Tensor& target, bool log_target, Reduction reduction) {
  check_pair("kl_div", input, target);
  const DType c = compute_type(input);
  const Tensor x = input.to(c), t = target.to(c);
  Tensor loss;
  if (log_target) {
    loss = mul(exp(t), sub(t, x));
  } else {
    const Tensor some = gt(t, 0);
    loss = where(some, mul(t, sub(log(where(some, t, 1.0)), x)), 0.0);
  }
  if (reduction == Reduction::batch_mean) {
    check(input.dim() >= 1, "kl_div: batch_mean needs at least one dimension");
    loss = mul(sum(loss), 1.0 / static_cast<double>(input.size(0)));
  } else {
    loss = reduce_loss(loss, reduction, "kl_div");
  }
  return loss.to(input.dtype());
}

}  // namespace weft
