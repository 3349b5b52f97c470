#include <weft/autograd/autograd.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/kernel.h>
#include <weft/ops/norm.h>
#include <weft/ops/norm_kind.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

#include <limits>

namespace weft {

// x, y: contiguous, rows of n elements; weight, bias: n elements of any strides and floating dtype, or undefined.
// stats: [2, rows] in the compute type, mean and r. Where residual is defined, it has x's shape, dtype and layout, and
// what is normalised is sum = x + residual, rounded to its dtype; else sum is undefined.
WEFT_DECLARE_KERNEL(norm, const NormArgs& args, const Tensor& x, const Tensor& residual, int64_t n,
                    const Tensor& weight, const Tensor& bias, Tensor& sum, Tensor& y, Tensor& stats)
// x: what was normalised. dx gets the gradient that comes through y, plus dsum where that is defined. dweight, dbias:
// [n] in the compute type, or undefined where not wanted; they are summed in an order that depends on the shape alone.
WEFT_DECLARE_KERNEL(norm_backward, const NormArgs& args, const Tensor& x, int64_t n, const Tensor& weight,
                    const Tensor& stats, const Tensor& dy, const Tensor& dsum, Tensor& dx, Tensor& dweight,
                    Tensor& dbias)

namespace {

DType compute_type(const Tensor& x) { return x.dtype() == float64 ? float64 : float32; }

// The gradients as ops, for second order. As in the kernel: with x̂ = (x - mean)·r and h = dy·(weight + offset),
// dx = r·(h - mean(h) - x̂·mean(h·x̂)), where the terms that come from mean and r are left out if those are constant.
Grads composed_backward(const NormArgs& args, const Tensor& x, int64_t n, const Tensor& weight, const Shape& bias_shape,
                        const Tensor& dy0) {
  const NormKind kind = args.kind;
  const double eps = args.eps;
  const DType c = compute_type(x);
  const Shape rows{x.numel() / n, n};
  const Tensor dy = reshape(dy0, rows).to(c), xr = reshape(x, rows).to(c);
  const Tensor centred = kind == NormKind::layer ? sub(xr, mean(xr, -1, keepdim)) : xr;
  const Tensor total = sum(square(centred), -1, keepdim);
  const Tensor power = kind == NormKind::l2 ? total : mul(total, 1.0 / static_cast<double>(n));
  const bool limited = kind == NormKind::scale || kind == NormKind::l2;
  const Tensor live = limited ? gt(sqrt(power), eps) : Tensor();
  const Tensor r =
      limited ? where(live, rsqrt(where(live, power, 1.0)), 1 / eps) : rsqrt(add(power, eps));  // [rows, 1]
  const Tensor hat = mul(centred, r);
  const Tensor h = weight.defined() ? mul(dy, add(reshape(weight, {weight.numel()}).to(c), args.offset)) : dy;
  Tensor along = sum(mul(h, hat), -1, keepdim);
  if (kind != NormKind::l2) along = mul(along, 1.0 / static_cast<double>(n));
  if (limited) along = where(live, along, 0.0);
  Tensor dx = sub(h, mul(hat, along));
  if (kind == NormKind::layer) dx = sub(dx, mean(h, -1, keepdim));
  Grads grads{reshape(mul(dx, r), x.shape()), Tensor(), Tensor()};
  if (weight.defined()) {
    const Tensor dw = sum(mul(dy, hat), 0);
    grads[1] = weight.numel() == n ? reshape(dw, weight.shape()) : dw;
  }
  grads[2] = reshape(sum(dy, 0), bias_shape);
  return grads;
}

// What a backward pass knows of its forward pass.
struct Normed {
  NormArgs args;
  int64_t n;
  Tensor weight, gain;  // gain: weight with n elements, outside the graph
  Shape bias_shape;
  Tensor stats;
  bool needs_weight, needs_bias;

  // By x (what was normalised), weight and bias; dsum is added to the first.
  Grads backward(const Tensor& x, const Tensor& dy0, const Tensor& dsum) const {
    if (grad_enabled()) {
      Grads g = composed_backward(args, x, n, weight, bias_shape, dy0);
      if (dsum.defined()) g[0] = add(g[0], dsum);
      return g;
    }
    const DType c = compute_type(x);
    Tensor dx = empty_like(x);
    Tensor dw = needs_weight ? empty(gain.shape(), c, x.device()) : Tensor();
    Tensor db = needs_bias ? empty(bias_shape, c, x.device()) : Tensor();
    WEFT_KERNEL(x.device(), norm_backward, args, x, n, gain, stats, dy0.contiguous(),
                dsum.defined() ? dsum.contiguous() : dsum, dx, dw, db);
    return {dx, dw, db};
  }
};

// Normalises x, or sum = x + residual where that is defined; all contiguous. weight: n elements, or one for all.
Normed normalise(const NormArgs& args, const Tensor& x, const Tensor& residual, int64_t n, const Tensor& weight,
                 const Tensor& bias, Tensor& sum, Tensor& y) {
  const DType c = compute_type(x);
  const Tensor gain = !weight.defined() ? weight : weight.numel() != n ? expand(weight.detach(), {n}) : weight.detach();
  Normed out{args,
             n,
             weight,
             gain,
             bias.defined() ? bias.shape() : Shape{n},
             empty({2, x.numel() / n}, c, x.device()),
             weight.defined() && weight.requires_grad(),
             bias.defined() && bias.requires_grad()};
  WEFT_KERNEL(x.device(), norm, args, x, residual, n, gain, bias, sum, y, out.stats);
  return out;
}

Tensor apply(const char* name, const NormArgs& args, const Tensor& x0, int64_t n, const Tensor& weight,
             const Tensor& bias) {
  check_same_device(name, {&x0, &weight, &bias});
  const Tensor x = x0.contiguous();
  if (x.numel() == 0) {  // nothing to take statistics of, but the graph goes on
    Tensor y = mul(x, 1.0);
    if (weight.defined()) y = add(y, mul(sum(weight), 0.0));
    return bias.defined() ? add(y, mul(sum(bias), 0.0)).to(x.dtype()) : y.to(x.dtype());
  }
  Tensor y = empty_like(x), none;
  const Normed normed = normalise(args, x, {}, n, weight, bias, none, y);
  return record(name, y, {x, weight, bias},
                [normed, x](const Tensor& dy) -> Grads { return normed.backward(x, dy, {}); });
}

// {x + residual, the norm of that}
std::pair<Tensor, Tensor> apply_to_sum(const char* name, const NormArgs& args, const Tensor& x0,
                                       const Tensor& residual0, int64_t n, const Tensor& weight, const Tensor& bias) {
  check_same_device(name, {&x0, &residual0, &weight, &bias});
  if (x0.dtype() != residual0.dtype() || x0.numel() == 0) {
    const Tensor s = add(x0, residual0);
    return {s, apply(name, args, s, n, weight, bias)};
  }
  const Tensor x = x0.contiguous(), residual = residual0.contiguous();
  Tensor s = empty_like(x), y = empty_like(x);
  const Normed normed = normalise(args, x, residual, n, weight, bias, s, y);
  const Tensors out =
      record(name, {s, y}, {x, residual, weight, bias}, [normed](const Tensors& dy, const Tensors& results) -> Grads {
        const Grads g = normed.backward(results[0], dy[1], dy[0]);
        return {g[0], g[0], g[1], g[2]};
      });
  return {out[0], out[1]};
}

// Checks that x ends in normalized_shape and that the parameters have that shape; the row's size.
int64_t row_size(const char* name, const Tensor& x, const Shape& normalized, const Tensor& weight, const Tensor& bias) {
  check(x.is_floating(), name, ": expected a floating tensor, got ", x.dtype());
  check(!normalized.empty(), name, ": normalized_shape is empty");
  check(x.dim() >= normalized.size() &&
            std::equal(normalized.begin(), normalized.end(), x.shape().end() - normalized.size()),
        name, ": input ", x.shape(), " does not end in ", normalized);
  for (const auto& [what, p] : {std::pair{"weight", &weight}, {"bias", &bias}}) {
    if (!p->defined()) continue;
    check(p->shape() == normalized, name, ": expected a ", what, " of shape ", normalized, ", got ", p->shape());
    check(p->is_floating(), name, ": expected a floating ", what, ", got ", p->dtype());
  }
  return normalized.numel();
}

void check_sum(const char* name, const Tensor& x, const Tensor& residual) {
  check(residual.is_floating(), name, ": expected a floating residual, got ", residual.dtype());
  check(x.shape() == residual.shape(), name, ": input ", x.shape(), " and residual ", residual.shape(),
        " differ in shape");
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight, const Tensor& bias, double eps,
                  double weight_offset) {
  const int64_t n = row_size("layer_norm", x, normalized_shape, weight, bias);
  return apply("layer_norm", {NormKind::layer, eps, weight_offset}, x, n, weight, bias);
}

std::pair<Tensor, Tensor> add_layer_norm(const Tensor& x, const Tensor& residual, const Shape& normalized_shape,
                                         const Tensor& weight, const Tensor& bias, double eps, double weight_offset) {
  check_sum("add_layer_norm", x, residual);
  const int64_t n = row_size("add_layer_norm", x, normalized_shape, weight, bias);
  return apply_to_sum("add_layer_norm", {NormKind::layer, eps, weight_offset}, x, residual, n, weight, bias);
}

namespace {

double spacing(const Tensor& x) {
  return x.dtype() == float64 ? std::numeric_limits<double>::epsilon()
                              : static_cast<double>(std::numeric_limits<float>::epsilon());
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight, std::optional<double> eps) {
  const int64_t n = row_size("rms_norm", x, normalized_shape, weight, {});
  return apply("rms_norm", {NormKind::rms, eps.value_or(spacing(x))}, x, n, weight, {});
}

std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Shape& normalized_shape,
                                       const Tensor& weight, std::optional<double> eps) {
  check_sum("add_rms_norm", x, residual);
  const int64_t n = row_size("add_rms_norm", x, normalized_shape, weight, {});
  return apply_to_sum("add_rms_norm", {NormKind::rms, eps.value_or(spacing(x))}, x, residual, n, weight, {});
}

namespace {

void check_scale(const char* name, const Tensor& x, const Tensor& gain) {
  check(x.is_floating() && gain.is_floating(), name, ": expected floating tensors, got ", x.dtype(), " and ",
        gain.dtype());
  check(x.dim() >= 1, name, ": expected at least one dimension");
  check(gain.numel() == 1 && gain.dim() <= 1, name, ": expected a gain of one element, got ", gain.shape());
}

}  // namespace

Tensor scale_norm(const Tensor& x, const Tensor& gain, double eps) {
  check_scale("scale_norm", x, gain);
  return apply("scale_norm", {NormKind::scale, eps}, x, x.size(-1), gain, {});
}

std::pair<Tensor, Tensor> add_scale_norm(const Tensor& x, const Tensor& residual, const Tensor& gain, double eps) {
  check_sum("add_scale_norm", x, residual);
  check_scale("add_scale_norm", x, gain);
  return apply_to_sum("add_scale_norm", {NormKind::scale, eps}, x, residual, x.size(-1), gain, {});
}

Tensor normalize(const Tensor& x, int64_t dim, double eps) {
  check(x.is_floating(), "normalize: expected a floating tensor, got ", x.dtype());
  dim = wrap_dim(dim, x.dim(), "normalize");
  if (x.dim() == 0) return reshape(normalize(reshape(x, {1}), 0, eps), {});
  const Tensor rows = movedim(x, dim, -1);
  return movedim(apply("normalize", {NormKind::l2, eps}, rows, rows.size(-1), {}, {}), -1, dim);
}

Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, double eps) {
  check(x.is_floating(), "group_norm: expected a floating tensor, got ", x.dtype());
  check(x.dim() >= 2, "group_norm: expected [n, c, ...], got ", x.shape());
  const int64_t channels = x.size(1);
  check(groups > 0 && channels % groups == 0, "group_norm: ", channels, " channels do not split into ", groups,
        " groups");
  const int64_t n = x.numel() == 0 ? 0 : x.numel() / (x.size(0) * groups);
  Tensor y = apply("group_norm", {NormKind::layer, eps}, x, n, {}, {});  // a group is contiguous in x
  Shape per_channel(static_cast<size_t>(x.dim() - 1), 1);
  per_channel[0] = channels;
  for (const auto& [what, p] : {std::pair{"weight", &weight}, {"bias", &bias}}) {
    if (!p->defined()) continue;
    check(p->shape() == Shape{channels}, "group_norm: expected a ", what, " of shape [", channels, "], got ",
          p->shape());
    const Tensor by_channel = reshape(*p, per_channel);
    y = p == &weight ? mul(y, by_channel) : add(y, by_channel);
  }
  return y.to(x.dtype());
}

}  // namespace weft
