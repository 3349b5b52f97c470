#include <weft/nn/xt/attend.h>
#include <weft/nn/xt/head_mixture.h>
#include <weft/nn/xt/places.h>
#include <weft/ops/attention.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/matmul.h>
#include <weft/ops/reduce.h>
#include <weft/ops/scan.h>
#include <weft/ops/shape.h>
#include <weft/ops/softmax.h>
#include <weft/ops/sort.h>

namespace weft::xt {
namespace {

// The first option that works on the matrix of scores.
const char* needs_scores(const AttendConfig& c) {
  if (c.sparse_topk) return "sparse_topk";
  if (c.hard) return "hard";
  if (c.sigmoid) return "sigmoid";
  if (c.selective) return "selective";
  if (c.pre_talking_heads) return "pre_talking_heads";
  if (c.post_talking_heads) return "post_talking_heads";
  if (c.pre_scale_post_talking_heads) return "pre_scale_post_talking_heads";
  if (c.softclamp_logits) return "softclamp_logits";
  if (c.custom_attn_fn) return "custom_attn_fn";
  if (c.cope) return "use_cope";
  return nullptr;
}

void check_config(const AttendConfig& c) {
  const char* needy = needs_scores(c);
  check(!c.flash || !needy, "Attention: ", needy ? needy : "",
        " works on the matrix of scores, which flash attention never makes: use one of the two");
  std::string ways;
  int count = 0;
  for (const auto& [on, name] : {std::pair{c.sigmoid, "sigmoid"},
                                 {c.hard, "hard"},
                                 {c.sparse_topk.has_value(), "sparse_topk"},
                                 {c.custom_attn_fn != nullptr, "custom_attn_fn"}})
    if (on) ways += (count++ ? " and " : "") + std::string(name);
  check(count <= 1, "Attention: ", ways, " exclude each other");
  check(!c.selective || c.causal, "Attention: selective needs causal attention");
  check(!c.cope || c.causal, "Attention: use_cope needs causal attention");
  check(!c.sparse_topk || *c.sparse_topk > 0, "Attention: sparse_topk must be positive, got ",
        c.sparse_topk.value_or(0));
  check(c.logit_softclamp_value > 0, "Attention: logit_softclamp_value must be positive, got ",
        c.logit_softclamp_value);
}

// Key-value head i modulo h_kv serves head i: [b, h_kv, m, e] → [b, h, m, e].
Tensor for_each_head(const Tensor& x, int64_t heads) {
  return x.size(1) == heads ? x : tile(x, {1, heads / x.size(1), 1, 1});
}

// Heads in the order (repeat, h_kv), as the original numbers them, to (h_kv, repeat), as the fused attention does; or
// back. Tensors that have one value for all heads stay.
Tensor regroup(const Tensor& x, int64_t outer) {
  if (!x.defined() || x.dim() < 3 || x.size(-3) <= 1 || outer <= 1 || outer == x.size(-3)) return x;
  return flatten(transpose(unflatten(x, -3, {outer, -1}), -4, -3), -4, -3);
}

// -|q - k|² as a product: [2q, |q|², -1] · [k, -1, |k|²]
std::pair<Tensor, Tensor> for_l2(const Tensor& q, const Tensor& k) {
  const auto one = [](const Tensor& x) {
    Shape shape = x.shape();
    shape.back() = 1;
    return full(shape, -1.0, {.dtype = x.dtype(), .device = x.device()});
  };
  return {cat({q * 2, sum(square(q), -1, keepdim), one(q)}, -1), cat({k, one(k), sum(square(k), -1, keepdim)}, -1)};
}

double lowest(DType dtype) {
  return dtype == float64 ? -1.7976931348623157e308 : dtype == float16 ? -65504.0 : -3.3895313892515355e38;
}

// What each of n queries, the last of m places, may see: bool, broadcasts to [b, h, n, m]; undefined: everything.
Tensor allowed(const Tensor& mask, bool causal, int64_t n, int64_t m, Device device) {
  if (!causal || n == 1) return mask;
  const Tensor past = le(places(0, m, device), reshape(places(m - n, m, device), {n, 1}));
  return mask.defined() ? logical_and(mask, past) : past;
}

// A query lowers the scores of later queries at the keys it has no use for, by the first head's positive scores.
// arXiv:2410.02703, section 3.3; the first token is never masked, nor is a token by itself.
Tensor selective(const Tensor& scores) {
  const int64_t n = scores.size(-2), m = scores.size(-1);
  Tensor gate = relu(select(scores, 1, 0));  // [b, n, m]
  const Tensor i = reshape(places(m - n, m, scores.device()), {n, 1}), j = places(0, m, scores.device());
  const Tensor kept = logical_and(gt(j, m - n), ne(i, j));
  gate = where(kept, gate, 0);
  gate = cumsum(pad(gate, {0, 0, 1, -1}), -2);  // by the queries before
  return scores - unsqueeze(gate, 1);
}

}  // namespace

Attend::Attend(const AttendConfig& c) : config_(c), needs_scores_(needs_scores(c)) {
  check_config(c);
  const auto mixture = [&](bool on, const char* name) -> std::shared_ptr<Module> {
    return on ? register_module(name, std::make_shared<HeadMixture>(c.heads)) : nullptr;
  };
  pre_softmax_heads_ = mixture(c.pre_talking_heads, "pre_softmax_talking_heads");
  post_softmax_heads_ = mixture(c.post_talking_heads, "post_softmax_talking_heads");
  pre_scale_post_heads_ = mixture(c.pre_scale_post_talking_heads, "pre_scale_post_talking_heads");
  if (c.cope) register_module("cope", c.cope);
}

Tensor Attend::operator()(const Tensor& q, const Tensor& k0, const Tensor& v0, const Tensor& mask0, const Tensor& bias0,
                          const Tensor& alibi_slopes, const Tensor& prev_attn, Intermediates* out) const {
  Tensor k = k0, v = v0, mask = mask0, bias = bias0;
  if (config_.add_zero_kv) {
    k = pad(k, {0, 0, 1, 0}), v = pad(v, {0, 0, 1, 0});
    if (mask.defined() && mask.size(-1) > 1) mask = pad(mask, {1, 0}, 1);
    if (bias.defined() && bias.size(-1) > 1) bias = pad(bias, {1, 0});
  }
  if (is_fused(prev_attn, out)) return fused(q, k, v, mask, bias, alibi_slopes);
  return over_scores(q, k, v, mask, bias, prev_attn, out);
}

Tensor Attend::fused(Tensor q, Tensor k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                     const Tensor& alibi_slopes) const {
  if (config_.l2_distance) std::tie(q, k) = for_l2(q, k);
  const int64_t repeat = q.size(1) / k.size(1);
  const Tensor slopes = alibi_slopes.defined() ? flatten(regroup(reshape(alibi_slopes, {-1, 1, 1}), repeat)) : Tensor();
  const Tensor y = scaled_dot_product_attention(regroup(q, repeat), k, v,
                                                {.mask = regroup(mask, repeat),
                                                 .bias = regroup(bias, repeat),
                                                 .causal = config_.causal,
                                                 .alibi_slopes = slopes,
                                                 .dropout = is_training() ? config_.dropout : 0,
                                                 .scale = config_.scale});
  return regroup(y, k.size(1));
}

Tensor Attend::over_scores(const Tensor& q, const Tensor& k0, const Tensor& v0, const Tensor& mask, const Tensor& bias,
                           const Tensor& prev_attn, Intermediates* out) const {
  const Tensor k = for_each_head(k0, q.size(1)), v = for_each_head(v0, q.size(1));
  const auto [left, right] = config_.l2_distance ? for_l2(q, k) : std::pair{q, k};
  Tensor s = matmul(left, transpose(right, -1, -2)) * config_.scale;  // [b, h, n, m]
  if (prev_attn.defined()) s = s + prev_attn;
  if (out) out->qk_similarities = s;

  const Tensor factor = pre_scale_post_heads_ ? pre_scale_post_heads_->forward(s) : Tensor();
  if (pre_softmax_heads_) s = s + pre_softmax_heads_->forward(s);
  if (bias.defined()) s = s + bias;
  if (config_.softclamp_logits) s = tanh(s / config_.logit_softclamp_value) * config_.logit_softclamp_value;

  const Tensor may = allowed(mask, config_.causal, s.size(-2), s.size(-1), s.device());
  const Tensor hidden = may.defined() ? logical_not(may) : zeros({1}, {.dtype = boolean, .device = s.device()});
  if (may.defined()) s = masked_fill(s, hidden, lowest(s.dtype()));
  if (config_.cope) s = s + (*config_.cope)(q, s, hidden);
  if (config_.selective) s = selective(s);

  Tensor w = weights(s, may);
  if (out) out->pre_softmax_attn = s, out->post_softmax_attn = w;
  w = dropout(w, config_.dropout, is_training());
  if (post_softmax_heads_) w = post_softmax_heads_->forward(w);
  if (factor.defined()) w = w * factor;
  return matmul(w, v);
}

Tensor Attend::weights(const Tensor& s, const Tensor& may0) const {
  const Tensor may = may0.defined() ? may0 : ones({1}, {.dtype = boolean, .device = s.device()});
  if (config_.custom_attn_fn) return config_.custom_attn_fn(s, may);
  if (config_.sigmoid) return where(may, sigmoid(s), 0);
  if (softmax_ && !config_.flash && !config_.hard && !config_.sparse_topk) return softmax_(s, may);
  const Tensor soft = softmax(s, may, -1);
  if (config_.hard) {
    const Tensor one_hot = scatter(zeros_like(s), -1, argmax(s.detach(), -1, keepdim), 1);
    return where(may, one_hot, 0) + (soft - soft.detach());
  }
  if (config_.sparse_topk) {
    const int64_t k = std::min(*config_.sparse_topk, s.size(-1));
    const Tensor least = slice(topk(s.detach(), k).values, -1, k - 1);
    const Tensor sparse = softmax(s, logical_and(ge(s.detach(), least), may), -1);
    return config_.sparse_topk_straight_through ? sparse.detach() + (soft - soft.detach()) : sparse;
  }
  return soft;
}

}  // namespace weft::xt
