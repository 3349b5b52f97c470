#include <weft/autograd/autograd.h>
#include <weft/ops/attention_kernel.h>
#include <weft/ops/copy.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
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

// Which of the packed sequences each of `rows` rows belongs to, [rows].
Tensor sequence_of(const Tensor& cu, int64_t rows) {
  const Tensor row = arange(rows).to(cu.device());
  Tensor of = sum(le(unsqueeze(narrow(cu, 0, 1, cu.size(0) - 1), 1), row).to(int64), 0);
  return minimum(of, full_like(of, std::max<int64_t>(cu.size(0) - 2, 0)));
}

// [b, 1, n, m], [1, 1, n, m] or for packed sequences the same over all their rows: the distance of each query from its
// key, (i - n) - (j - m), and which keys it may see.
struct Placed {
  Tensor distance, visible;
};
Placed place(const Attention& a) {
  const AttentionArgs& args = a.args;
  const Device device = a.q.device();
  const Tensor i = arange(a.full[2]).to(device).reshape({1, 1, a.full[2], 1}),
               j = arange(a.full[3]).to(device).reshape({1, 1, 1, a.full[3]});
  Tensor from_end, to_end, visible;  // i - n, j - m
  if (args.cu_q.defined()) {
    const Tensor of_q = sequence_of(args.cu_q, a.full[2]), of_k = sequence_of(args.cu_k, a.full[3]);
    from_end = sub(i, reshape(index_select(args.cu_q, 0, add(of_q, 1)), i.shape()));
    to_end = sub(j, reshape(index_select(args.cu_k, 0, add(of_k, 1)), j.shape()));
    visible = eq(reshape(of_q, i.shape()), reshape(of_k, j.shape()));
  } else {
    from_end = sub(i, a.full[2]);
    to_end = args.kv_length.defined() ? sub(j, reshape(minimum(maximum(args.kv_length, zeros_like(args.kv_length)),
                                                               full_like(args.kv_length, a.full[3])),
                                                       {a.full[0], 1, 1, 1}))
                                      : sub(j, a.full[3]);
    visible = lt(to_end, 0);
  }
  const Tensor distance = sub(from_end, to_end);
  if (args.left < args.kNoLimit) visible = logical_and(visible, le(distance, args.left));
  if (args.right < args.kNoLimit) visible = logical_and(visible, ge(distance, -args.right));
  return {distance, visible};
}

// What multiplies the distance: [b, h, 1, 1], or for packed sequences [1, h, n, 1].
Tensor slopes(const Attention& a) {
  if (!a.args.cu_q.defined()) return reshape(a.args.alibi, {-1, a.full[1], 1, 1}).to(a.q.dtype());
  return reshape(transpose(index_select(a.args.alibi, 0, sequence_of(a.args.cu_q, a.full[2])), 0, 1),
                 {1, a.full[1], a.full[2], 1})
      .to(a.q.dtype());
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
  if (!a.args.basic() || a.args.causal) {
    const auto [distance, visible] = place(a);
    if (a.args.alibi.defined()) s = sub(s, mul(abs(distance).to(s.dtype()), slopes(a)));
    allowed = allowed.defined() ? logical_and(allowed, visible) : expand(visible, a.full);
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
    check(!a.args.cu_q.defined(), "attention_varlen: second derivatives are not there with dropout");
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

// Whether the heads of x [b, h, n, d] follow each other; else those of a token lie side by side.
bool heads_apart(const Tensor& x) { return x.size(1) > 1 && x.strides()[1] > x.strides()[2]; }

// [b, h, n, d] in one of these two layouts: what comes before and after the attention is then a view.
Tensor empty_heads(const Shape& s, bool apart, const Tensor& like) {
  if (apart) return empty(s, like.dtype(), like.device());
  return transpose(empty({s[0], s[2], s[1], s[3]}, like.dtype(), like.device()), 1, 2);
}

// Whether q, k and v are the thirds of one projection [b, n, 3·h·d], as chunk() cuts it.
bool thirds_of_one(const Tensor& q, const Tensor& k, const Tensor& v) {
  const int64_t n = q.size(2), d = q.size(3), third = q.size(1) * d;
  return q.shape() == k.shape() && q.shape() == v.shape() && q.strides() == Shape{n * 3 * third, d, 3 * third, 1} &&
         q.strides() == k.strides() && q.strides() == v.strides() && q.impl().storage == k.impl().storage &&
         q.impl().storage == v.impl().storage && k.impl().offset == q.impl().offset + third &&
         v.impl().offset == q.impl().offset + 2 * third;
}

// Room for the gradients of q, k and v. They lie as their tensors do, so that thirds of one are joined already.
Tensors gradient_room(const Attention& a) {
  if (!thirds_of_one(a.q, a.k, a.v)) {
    const auto like = [](const Tensor& x) { return empty_heads(x.shape(), heads_apart(x), x); };
    return {like(a.q), like(a.k), like(a.v)};
  }
  const Shape& s = a.q.shape();
  const Tensor room = empty({s[0], s[2], 3, s[1], s[3]}, a.q.dtype(), a.q.device());
  const auto third = [&](int64_t i) { return transpose(select(room, 2, i), 1, 2); };
  return {third(0), third(1), third(2)};
}

Grads fused_backward(const Attention& a, const Tensors& dy, const Tensors& y) {
  const Tensors room = gradient_room(a);
  Tensor dq = room[0], dk = room[1], dv = room[2], dbias;
  if (a.bias.defined() && a.bias.requires_grad())
    dbias = zeros(a.bias.shape(), {.dtype = a.q.dtype() == float64 ? float64 : float32, .device = a.q.device()});
  const Tensor dlse = dy[1].defined() ? dy[1].contiguous() : dy[1];
  WEFT_KERNEL(a.q.device(), attention_backward, a.q.detach(), a.k.detach(), a.v.detach(), a.expanded(a.mask),
              a.expanded(a.bias.defined() ? a.bias.detach() : a.bias), a.args, y[0], y[1], dy[0], dlse, dq, dk, dv,
              dbias);
  return {dq, dk, dv, dbias};
}

// Runs the kernel and enters it into the graph: {out [b, h, n, d_v], lse [b, h, n]}.
Tensors recorded(const Attention& a) {
  Tensor out = empty_heads({a.full[0], a.full[1], a.full[2], a.v.size(3)}, heads_apart(a.q) && heads_apart(a.v), a.q),
         lse;
  if (a.args.fn == AttentionFn::softmax)
    lse = empty({a.full[0], a.full[1], a.full[2]}, a.q.dtype() == float64 ? float64 : float32, a.q.device());
  WEFT_KERNEL(a.q.device(), attention_forward, a.q.detach(), a.k.detach(), a.v.detach(), a.expanded(a.mask),
              a.expanded(a.bias.defined() ? a.bias.detach() : a.bias), a.args, out, lse);
  const auto backward = [a](const Tensors& dy, const Tensors& y) -> Grads {
    return grad_enabled() ? composed_backward(a, dy) : fused_backward(a, dy, y);
  };
  const Tensors inputs{a.q, a.k, a.v, a.bias};
  if (a.args.fn == AttentionFn::softmax) return record("attention", {out, lse}, inputs, backward);
  // Without a softmax each weight has its own derivative, and the result need not be kept.
  return record("attention", {out, lse}, inputs, [backward](const Tensors& dy) { return backward(dy, Tensors(2)); });
}

Tensor as_int64(const char* op, const char* what, const Tensor& x) {
  check(x.dtype() == int64 || x.dtype() == int32, op, ": ", what, " must be int64 or int32, got ", x.dtype());
  return x.to(int64).contiguous();
}

// What the options say, but for mask and bias. sequences: the batch, or how many are packed.
AttentionArgs arguments(const char* op, const AttentionOptions& o, int64_t sequences, int64_t heads, int64_t d,
                        DType dtype) {
  AttentionArgs args;
  args.fn = o.fn, args.causal = o.causal, args.dropout = o.dropout;
  args.scale = o.scale.value_or(1 / std::sqrt(static_cast<double>(std::max<int64_t>(d, 1))));
  check(o.dropout >= 0 && o.dropout <= 1, op, ": dropout must be in [0, 1], got ", o.dropout);
  for (const auto& [side, name] : {std::pair{o.window_left, "window_left"}, std::pair{o.window_right, "window_right"}})
    check(side.value_or(0) >= 0, op, ": ", name, " must be at least 0, got ", side.value_or(0));
  args.left = std::min(o.window_left.value_or(args.kNoLimit), args.kNoLimit);
  args.right = o.causal ? 0 : std::min(o.window_right.value_or(args.kNoLimit), args.kNoLimit);
  if (const Tensor& slopes = o.alibi_slopes; slopes.defined()) {
    check(slopes.is_floating() && slopes.dim() >= 1 && slopes.dim() <= 2 && slopes.size(-1) == heads &&
              (slopes.dim() == 1 || slopes.size(0) == sequences),
          op, ": alibi_slopes must be floating of shape [", heads, "] or [", sequences, ", ", heads, "], got ",
          slopes.dtype(), " ", slopes.shape());
    check(!(grad_enabled() && slopes.requires_grad()), op,
          ": alibi_slopes gets no gradient; slopes that are learned go into a bias");
    args.alibi = expand(slopes.detach().to(dtype == float64 ? float64 : float32), {sequences, heads});
  }
  if (const Tensor& length = o.kv_length; length.defined()) {
    check(length.dim() == 0 || length.shape() == Shape{sequences}, op, ": kv_length must be a scalar or [", sequences,
          "], got ", length.shape());
    args.kv_length = expand(as_int64(op, "kv_length", length), {sequences});
  }
  return args;
}

AttentionResult attention(const Tensor& q0, const Tensor& k0, const Tensor& v0, const AttentionOptions& o,
                          Generator& generator) {
  const char* op = "scaled_dot_product_attention";
  check(q0.dim() >= 2 && q0.dim() <= 4 && k0.dim() == q0.dim() && v0.dim() == q0.dim(), op,
        ": expected q, k and v of 2 to 4 dimensions alike, got ", q0.shape(), ", ", k0.shape(), " and ", v0.shape());
  check_same_device(op, {&q0, &k0, &v0, &o.mask, &o.bias, &o.alibi_slopes, &o.kv_length});
  Attention a{four_dims(q0), four_dims(k0), four_dims(v0), align(o.mask, q0.dim()), align(o.bias, q0.dim()), {}, {}};
  const Shape &q = a.q.shape(), &k = a.k.shape(), &v = a.v.shape();
  check(q0.is_floating() && k0.dtype() == q0.dtype() && v0.dtype() == q0.dtype(), op,
        ": expected one floating dtype, got ", q0.dtype(), ", ", k0.dtype(), " and ", v0.dtype());
  check(q[0] == k[0] && k[0] == v[0] && k[1] == v[1] && k[2] == v[2] && q[3] == k[3], op, ": shapes do not fit: q ",
        q0.shape(), ", k ", k0.shape(), ", v ", v0.shape());
  check(k[1] > 0 && q[1] % k[1] == 0, op, ": ", q[1], " query heads cannot share ", k[1], " key-value heads");
  a.full = {q[0], q[1], q[2], k[2]};
  check(!o.mask.defined() || o.mask.dtype() == boolean, op, ": the mask must be bool (true = attend), got ",
        o.mask.defined() ? o.mask.dtype() : boolean, "; an additive one is a bias");
  for (const Tensor* x : {&a.mask, &a.bias}) {
    bool fits = !x->defined() || x->dim() == 4;
    for (int64_t d = 0; x->defined() && fits && d < 4; ++d) fits = x->size(d) == 1 || x->size(d) == a.full[d];
    check(fits, op, ": ", x == &a.mask ? "mask " : "bias ", x->defined() ? x->shape() : Shape(),
          " does not broadcast to ", a.full);
  }
  a.args = arguments(op, o, q[0], q[1], q[3], q0.dtype());
  a.args.max_q = q[2], a.args.max_k = k[2];
  if (o.dropout > 0) a.args.at = generator.reserve(a.full.numel());

  const Tensors y = recorded(a);
  const Tensor &out = y[0], &lse = y[1];
  Shape shape = q0.shape(), rows(q0.shape().begin(), q0.shape().end() - 1);
  shape.back() = v[3];
  return {reshape(out, shape), lse.defined() ? reshape(lse, rows) : lse};
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

Tensor attention_varlen(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cu_seqlens_q,
                        const Tensor& cu_seqlens_k, int64_t max_q, int64_t max_k, const AttentionOptions& o,
                        Generator& generator) {
  const char* op = "attention_varlen";
  check(q.is_floating() && k.dtype() == q.dtype() && v.dtype() == q.dtype(), op, ": expected one floating dtype, got ",
        q.dtype(), ", ", k.dtype(), " and ", v.dtype());
  check(q.dim() == 3 && k.dim() == 3 && v.dim() == 3 && k.size(0) == v.size(0) && k.size(1) == v.size(1) &&
            q.size(2) == k.size(2),
        op, ": shapes do not fit: q ", q.shape(), ", k ", k.shape(), ", v ", v.shape());
  check(k.size(1) > 0 && q.size(1) % k.size(1) == 0, op, ": ", q.size(1), " query heads cannot share ", k.size(1),
        " key-value heads");
  check(cu_seqlens_q.dim() == 1 && cu_seqlens_q.size(0) >= 1 && cu_seqlens_k.shape() == cu_seqlens_q.shape(), op,
        ": expected cu_seqlens_q and cu_seqlens_k of one shape [sequences + 1], got ", cu_seqlens_q.shape(), " and ",
        cu_seqlens_k.shape());
  check(!o.mask.defined() && !o.bias.defined() && !o.kv_length.defined(), op,
        ": packed sequences take no mask, bias or kv_length");
  check(max_q >= 0 && max_k >= 0, op, ": max_q and max_k must be at least 0, got ", max_q, " and ", max_k);
  check_same_device(op, {&q, &k, &v, &cu_seqlens_q, &cu_seqlens_k, &o.alibi_slopes});
  auto packed = [](const Tensor& x) { return unsqueeze(transpose(x, 0, 1), 0); };  // [total, h, d] → [1, h, total, d]
  Attention a{packed(q), packed(k), packed(v), {}, {}, {}, {1, q.size(1), q.size(0), k.size(0)}};
  a.args = arguments(op, o, cu_seqlens_q.size(0) - 1, q.size(1), q.size(2), q.dtype());
  a.args.cu_q = as_int64(op, "cu_seqlens_q", cu_seqlens_q), a.args.cu_k = as_int64(op, "cu_seqlens_k", cu_seqlens_k);
  a.args.max_q = std::min(max_q, q.size(0)), a.args.max_k = std::min(max_k, k.size(0));
  if (o.dropout > 0)
    a.args.at = generator.reserve((cu_seqlens_q.size(0) - 1) * q.size(1) * a.args.max_q * a.args.max_k);
  return transpose(squeeze(recorded(a)[0], 0), 0, 1);
}

}  // namespace weft
