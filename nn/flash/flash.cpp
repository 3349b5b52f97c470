#include <weft/nn/flash/attention_fn.h>
#include <weft/nn/flash/flash.h>
#include <weft/nn/flash/masks.h>
#include <weft/nn/flash/scale_norm.h>
#include <weft/nn/flash/token_shift.h>
#include <weft/ops/attention.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/matmul.h>
#include <weft/ops/reduce.h>
#include <weft/ops/scan.h>
#include <weft/ops/shape.h>

#include <algorithm>
#include <cmath>

namespace weft::flash {
namespace {

int64_t hidden_dim(const FLASHConfig& c) {
  return hidden_features("FLASH", c.dim, c.query_key_dim, c.expansion_factor);
}

// Places from ... to - 1 of t [b, n, ...] in groups: [b, groups, size, ...], a view.
Tensor group(const Tensor& t, int64_t from, int64_t to, int64_t size) {
  return unflatten(slice(t, 1, from, to), 1, {-1, size});
}

// f(from, to, size) on the whole groups of g, then on the tokens left over as one shorter group, joined along the text.
// Each result is [b, groups, size, e]; together [b, n, e].
template <class F>
Tensor in_groups(int64_t n, int64_t g, F&& f) {
  const int64_t whole = n - n % g;
  Tensors parts;
  if (whole > 0) parts.push_back(flatten(f(0, whole, g), 1, 2));
  if (whole < n) parts.push_back(flatten(f(whole, n, n - whole), 1, 2));
  return parts.size() == 1 ? parts[0] : cat(parts, 1);
}

}  // namespace

FLASH::FLASH(const FLASHConfig& c)
    : config_(c),
      norm_(make_norm(c.norm_klass, c.dim)),
      rel_pos_bias_({.scale = std::sqrt(static_cast<double>(c.query_key_dim)), .causal = c.causal}),
      to_hidden_(std::make_shared<Linear>(c.dim, 2 * hidden_dim(c)), std::make_shared<SiLU>()),
      to_qk_(std::make_shared<Linear>(c.dim, c.query_key_dim), std::make_shared<SiLU>()),
      qk_offset_scale_({.dim = c.query_key_dim, .heads = 4}),
      to_out_(hidden_dim(c), c.dim) {
  check(c.group_size > 0, "FLASH: group_size must be positive, got ", c.group_size);
  register_module("attn_fn", make_attention_fn(c.laplace_attn_fn));
  if (c.rotary_pos_emb) register_module("rotary_pos_emb", c.rotary_pos_emb);
  register_module("rel_pos_bias", rel_pos_bias_);
  register_module("norm", norm_);
  register_module("dropout", std::make_shared<Dropout>(c.dropout));
  register_module("to_hidden", to_hidden_);
  register_module("to_qk", to_qk_);
  register_module("qk_offset_scale", qk_offset_scale_);
  register_module("to_out", to_out_);
}

Tensor FLASH::operator()(const Tensor& x, const Tensor& mask) const {
  check_input("FLASH", x, config_.dim, mask);
  return (*this)(ResidualStream{x}, mask, places(x.size(1))).sum();
}

Places FLASH::places(int64_t n) const {
  const int64_t longest = std::min(n, config_.group_size);
  return {config_.rotary_pos_emb ? config_.rotary_pos_emb->angles(n) : Tensor(),
          rel_pos_bias_.buckets(longest, longest)};
}

ResidualStream FLASH::operator()(const ResidualStream& stream, const Tensor& mask, const Places& places) const {
  check_input("FLASH", stream.x, config_.dim, mask);
  check(stream.x.size(1) > 0, "FLASH: expected at least one token, got ", stream.x.shape());
  auto [x, normed] = stream.add_norm(*norm_);
  if (config_.padding_invariant && mask.defined()) normed = masked_fill(normed, logical_not(unsqueeze(mask, -1)), 0);
  if (config_.shift_tokens) normed = shift_tokens(normed);

  const Tensors hidden = chunk(to_hidden_.at<Linear>(0)(normed), 2, -1);
  const Tensor v = silu(hidden[0]), gate = hidden[1];  // [b, n, e], the gate before its silu
  const Tensors heads = qk_offset_scale_.heads(to_qk_.at<Linear>(0)(normed, Activation::silu), places.angles);
  const Tensor &quad_q = heads[0], &lin_q = heads[1], &quad_k = heads[2];  // [b, n, s]
  Tensor lin_k = heads[3];
  if (mask.defined()) lin_k = masked_fill(lin_k, logical_not(unsqueeze(mask, -1)), 0);

  const Tensor attended = add_linear(quadratic(quad_q, quad_k, v, mask, places), lin_q, lin_k, v, mask);
  return {x, swiglu_linear(attended, gate, to_out_.weight, to_out_.bias)};
}

// q, k: [b, n, s], v: [b, n, e], mask: [b, n] or none → [b, n, e]
Tensor FLASH::quadratic(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask,
                        const Places& places) const {
  return in_groups(q.size(1), config_.group_size, [&](int64_t from, int64_t to, int64_t size) {
    const auto in = [&](const Tensor& t) { return group(t, from, to, size).to(v.dtype()); };
    return scaled_dot_product_attention(in(q), in(k), in(v),  // a group counts as a head
                                        {.mask = mask.defined() ? unsqueeze(group(mask, from, to, size), 2) : mask,
                                         .bias = rel_pos_bias_.bias(places.buckets, size),
                                         .causal = config_.causal,
                                         .dropout = is_training() ? config_.dropout : 0,
                                         .scale = 1 / static_cast<double>(config_.group_size),
                                         .fn = attention_fn(config_.laplace_attn_fn)});
  });
}

// attended + linear attention. q, k: [b, n, s], attended, v: [b, n, e], mask: [b, n] or none → [b, n, e]
Tensor FLASH::add_linear(const Tensor& attended, const Tensor& q, const Tensor& k, const Tensor& v,
                         const Tensor& mask) const {
  const int64_t n = q.size(1), g = config_.group_size;
  if (config_.causal && n <= g) return attended;  // a group does not see itself
  // Keys over what the sums of k·vᵀ are divided by.
  const bool by_length = !config_.causal && config_.padding_invariant && mask.defined();
  const Tensor keys = by_length ? k / unsqueeze(real_lengths(mask, v.dtype()), -1) : k / (config_.causal ? g : n);
  const auto sums = [&](int64_t from, int64_t to, int64_t size) {  // of each group: [b, groups, s, e]
    return matmul(transpose(group(keys, from, to, size), -2, -1), group(v, from, to, size));
  };
  if (config_.causal) {
    const Tensor kv = sums(0, n - n % g, g);
    return in_groups(n, g, [&](int64_t from, int64_t to, int64_t size) {
      return baddbmm(group(attended, from, to, size), group(q, from, to, size),
                     size == g ? cumsum(kv, 1, {.exclusive = true}) : sum(kv, 1, keepdim));
    });
  }
  if (config_.reduce_group_non_causal_attn) return baddbmm(attended, q, matmul(transpose(keys, -2, -1), v));
  return in_groups(n, g, [&](int64_t from, int64_t to, int64_t size) {
    return baddbmm(group(attended, from, to, size), group(q, from, to, size), sums(from, to, size));
  });
}

}  // namespace weft::flash
