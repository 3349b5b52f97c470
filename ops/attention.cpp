#include <weft/autograd/autograd.h>
#include <weft/ops/attention_kernel.h>
#include <weft/ops/copy.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/kernel.h>
#include <weft/ops/matmul.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft {

WEFT_DECLARE_KERNEL(attention_forward, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask,
                    const Tensor& bias, const AttentionArgs& args, Tensor& out, Tensor& lse)
WEFT_DECLARE_KERNEL(attention_backward, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask,
                    const Tensor& bias, const AttentionArgs& args, const Tensor& out, const Tensor& lse,
                    const Tensor& dout, const Tensor& dlse, Tensor& dq, Tensor& dk, Tensor& dv, Tensor& dbias)

namespace {

// Everything the computation depends on, in four dimensions: what forward, backward and composition share.
struct Attention {
  Tensor q, k, v, mask, bias;  // bias: 4-D, sizes of 1 where it is broadcast
  AttentionArgs args;
  Shape full;  // [b, h, n, m]

  Tensor expanded(const Tensor& x) const { return x.defined() ? expand(x, full) : x; }
};

Tensor four_dims(const Tensor& x) {
  Tensor y = x;
  while (y.dim() < 4) y = unsqueeze(y, y.dim() == 3 ? 1 : 0);
  return y;
}

// Mask and bias are aligned from the right, as broadcasting is; [b, n, m] beside 3-D queries gets its head dimension
// there.
Tensor align(const Tensor& x, int64_t query_dims) {
  if (!x.defined()) return x;
  Tensor y = x;
  if (query_dims == 3 && y.dim() == 3) y = unsqueeze(y, 1);
  while (y.dim() < 4) y = unsqueeze(y, 0);
  return y;
}

// The definition, made of ops: the reference of the fused kernel and its way to second order. Returns {out, lse}.
Tensors composition(const Attention& a, const Tensor& q, const Tensor& k0, const Tensor& v0, const Tensor& bias) {
  const int64_t b = a.full[0], h = a.full[1], n = a.full[2], m = a.full[3], hk = k0.size(1);
  auto share = [&](const Tensor& x) {  // [b, h_kv, m, e] → [b, h, m, e]
    if (hk == h) return x;
    return reshape(expand(unsqueeze(x, 2), {b, hk, h / hk, m, x.size(-1)}), {b, h, m, x.size(-1)});
  };
  const Tensor k = share(k0), v = share(v0);
  Tensor s = mul(matmul(q, transpose(k, -1, -2)), a.args.scale);
  if (bias.defined()) s = add(s, bias);
  Tensor allowed = a.expanded(a.mask);
  if (a.args.causal) {
    const Tensor i = reshape(arange(n), {n, 1}), j = arange(m);
    const Tensor causal = le(j, add(i, m - n)).to(q.device());
    allowed = allowed.defined() ? logical_and(allowed, causal) : expand(causal, a.full);
  }
  Tensor w, lse;
  if (a.args.fn == AttentionFn::softmax) {
    Tensor top = amax(m == 0              ? zeros({b, h, n, 1}, {.dtype = s.dtype(), .device = s.device()})
                      : allowed.defined() ? masked_fill(s.detach(), logical_not(allowed), -INFINITY)
                                          : s.detach(),
                      -1, keepdim);
    top = where(isfinite(top), top, 0.0);
    w = exp(sub(s, top));
    if (allowed.defined()) w = where(allowed, w, 0.0);
    const Tensor total = sum(w, -1, keepdim), empty_row = eq(total, 0);
    const Tensor safe = where(empty_row, Scalar(1.0), total);
    w = div(w, safe);
    lse = squeeze(where(empty_row, Scalar(-INFINITY), add(top, log(safe))), -1);
  } else {
    w = a.args.fn == AttentionFn::relu_squared
            ? relu_squared(s)
            : mul(add(erf(mul(sub(s, fn::Laplace::kMean), fn::Laplace::kInverse)), 1), 0.5);
    if (allowed.defined()) w = where(allowed, w, 0.0);
  }
  if (a.args.dropout > 0) {
    Generator again;
    again.set_state(a.args.at);
    w = dropout(w, a.args.dropout, true, again);
  }
  return {matmul(w, v), lse};
}

// Gradients through the composition, recorded: inputs are entered again as tensors of their own, so that one that
// depends on another does not count twice.
Grads composed_backward(const Attention& a, const Tensors& dy) {
  Tensors inputs, wanted;
  for (const Tensor& x : {a.q, a.k, a.v, a.bias}) {
    inputs.push_back(!x.defined() ? x
                                  : record("alias", as_strided_raw(x, x.shape(), x.strides(), x.impl().offset), {x},
                                           [](const Tensor& g) -> Grads { return {g}; }));
    if (x.defined() && x.requires_grad()) wanted.push_back(inputs.back());
  }
  Tensors y = composition(a, inputs[0], inputs[1], inputs[2], inputs[3]), outs{y[0]}, grads{dy[0]};
  if (y[1].defined()) {
    const Tensor none = eq(y[1], -INFINITY);  // its gradient is not defined: no flow
    outs.push_back(where(none, Scalar(0.0), y[1])), grads.push_back(where(none, Scalar(0.0), dy[1]));
  }
  Tensors found = grad(outs, wanted, grads, {.create_graph = true, .allow_unused = true});
  Grads out(4);
  for (size_t i = 0, at = 0; i < 4; ++i) {
    if (inputs[i].defined() && inputs[i].requires_grad()) out[i] = found[at++];
  }
  return out;
}

Grads fused_backward(const Attention& a, const Tensors& dy, const Tensors& y) {
  Tensor dq = empty(a.q.shape(), a.q.dtype(), a.q.device()), dk = empty(a.k.shape(), a.k.dtype(), a.q.device()),
         dv = empty(a.v.shape(), a.v.dtype(), a.q.device()), dbias;
  if (a.bias.defined() && a.bias.requires_grad())
    dbias = zeros(a.bias.shape(), {.dtype = a.q.dtype() == float64 ? float64 : float32, .device = a.q.device()});
  const Tensor dlse = dy[1].defined() ? dy[1].contiguous() : dy[1];
  WEFT_KERNEL(a.q.device(), attention_backward, a.q.detach(), a.k.detach(), a.v.detach(), a.expanded(a.mask),
              a.expanded(a.bias.defined() ? a.bias.detach() : a.bias), a.args, y[0], y[1], dy[0], dlse, dq, dk, dv,
              dbias);
  return {dq, dk, dv, dbias};
}

AttentionResult attention(const Tensor& q0, const Tensor& k0, const Tensor& v0, const AttentionOptions& o,
                          Generator& generator) {
  const char* op = "scaled_dot_product_attention";
  check(q0.dim() >= 2 && q0.dim() <= 4 && k0.dim() == q0.dim() && v0.dim() == q0.dim(), op,
        ": expected q, k and v of 2 to 4 dimensions alike, got ", q0.shape(), ", ", k0.shape(), " and ", v0.shape());
  check_same_device(op, {&q0, &k0, &v0, &o.mask, &o.bias});
  Attention a{four_dims(q0), four_dims(k0), four_dims(v0), align(o.mask, q0.dim()), align(o.bias, q0.dim()), {}, {}};
  const Shape &q = a.q.shape(), &k = a.k.shape(), &v = a.v.shape();
  check(q0.is_floating() && k0.dtype() == q0.dtype() && v0.dtype() == q0.dtype(), op,
        ": expected one floating dtype, got ", q0.dtype(), ", ", k0.dtype(), " and ", v0.dtype());
  check(q[0] == k[0] && k[0] == v[0] && k[1] == v[1] && k[2] == v[2] && q[3] == k[3], op, ": shapes do not fit: q ",
        q0.shape(), ", k ", k0.shape(), ", v ", v0.shape());
  check(k[1] > 0 && q[1] % k[1] == 0, op, ": ", q[1], " query heads cannot share ", k[1], " key-value heads");
  check(o.dropout >= 0 && o.dropout <= 1, op, ": dropout must be in [0, 1], got ", o.dropout);
  a.full = {q[0], q[1], q[2], k[2]};
  check(!o.mask.defined() || o.mask.dtype() == boolean, op, ": the mask must be bool (true = attend), got ",
        o.mask.defined() ? o.mask.dtype() : boolean, "; an additive one is a bias");
  for (const Tensor* x : {&a.mask, &a.bias}) {
    bool fits = !x->defined() || x->dim() == 4;
    for (int64_t d = 0; x->defined() && fits && d < 4; ++d) fits = x->size(d) == 1 || x->size(d) == a.full[d];
    check(fits, op, ": ", x == &a.mask ? "mask " : "bias ", x->defined() ? x->shape() : Shape(),
          " does not broadcast to ", a.full);
  }
  a.args = {
      o.fn, o.causal, o.scale.value_or(1 / std::sqrt(static_cast<double>(std::max<int64_t>(q[3], 1)))), o.dropout, {}};
  if (o.dropout > 0) a.args.at = generator.reserve(a.full.numel());

  Tensor out = empty({q[0], q[1], q[2], v[3]}, q0.dtype(), q0.device()), lse;
  if (o.fn == AttentionFn::softmax)
    lse = empty({q[0], q[1], q[2]}, q0.dtype() == float64 ? float64 : float32, q0.device());
  WEFT_KERNEL(q0.device(), attention_forward, a.q.detach(), a.k.detach(), a.v.detach(), a.expanded(a.mask),
              a.expanded(a.bias.defined() ? a.bias.detach() : a.bias), a.args, out, lse);
  const Tensors y =
      record("attention", {out, lse}, {a.q, a.k, a.v, a.bias}, [a](const Tensors& dy, const Tensors& y) -> Grads {
        return grad_enabled() ? composed_backward(a, dy) : fused_backward(a, dy, y);
      });
  Shape shape = q0.shape(), rows(q0.shape().begin(), q0.shape().end() - 1);
  shape.back() = v[3];
  return {reshape(y[0], shape), lse.defined() ? reshape(y[1], rows) : lse};
}

}  // namespace

Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
                                    Generator& generator) {
  return attention(q, k, v, options, generator).out;
}

AttentionResult attention_with_lse(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
                                   Generator& generator) {
  check(options.fn == AttentionFn::softmax, "attention_with_lse: only softmax has a log-sum-exp");
  return attention(q, k, v, options, generator);
}

}  // namespace weft
