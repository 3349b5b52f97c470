#include <weft/nn/activation.h>
#include <weft/nn/container.h>
#include <weft/nn/init.h>
#include <weft/nn/xt/attention.h>
#include <weft/nn/xt/places.h>
#include <weft/nn/xt/position_bias.h>
#include <weft/nn/xt/rotary_embedding.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/norm.h>
#include <weft/ops/random.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft::xt {
namespace {

// [b, n, h · d] → [b, h, n, d]
Tensor split_heads(const Tensor& x, int64_t d) { return transpose(unflatten(x, -1, {-1, d}), 1, 2); }
Tensor merge_heads(const Tensor& x) { return flatten(transpose(x, 1, 2), -2, -1); }

Tensor grouped_l2norm(const Tensor& x, int64_t groups) {
  return groups == 1 ? normalize(x) : flatten(normalize(unflatten(x, -1, {groups, -1})), -2, -1);
}

// mask [..., given] of the last keys → [..., m], true (a bias: 0) at those before them.
Tensor extend_left(const Tensor& x, int64_t m) {
  const int64_t given = x.size(-1);
  return given == 1 || given == m ? x : pad(x, {m - given, 0}, x.dtype() == boolean ? 1 : 0);
}

// The same of what a caller gave: for all m keys, for all but the learned ones, or for those of x alone.
Tensor extend_given(const Tensor& x, int64_t m, int64_t learned, int64_t of_x, const char* what) {
  const int64_t given = x.size(-1);
  check(given == 1 || given == m || given == m - learned || given == of_x, "Attention: ", what, " ", x.shape(),
        " is not for ", m - learned, " keys");
  return extend_left(x, m);
}

AttendConfig attend_config(const AttentionConfig& c) {
  AttendConfig a{.heads = c.heads,
                 .causal = c.causal,
                 .scale = c.qk_norm ? c.qk_norm_scale : 1 / std::sqrt(static_cast<double>(c.dim_head)),
                 .dropout = c.dropout,
                 .flash = c.flash,
                 .add_zero_kv = c.add_zero_kv,
                 .sparse_topk = c.sparse_topk,
                 .sparse_topk_straight_through = c.sparse_topk_straight_through,
                 .hard = c.hard,
                 .sigmoid = c.sigmoid,
                 .l2_distance = c.l2_distance,
                 .selective = c.selective,
                 .pre_talking_heads = c.pre_talking_heads,
                 .post_talking_heads = c.post_talking_heads,
                 .pre_scale_post_talking_heads = c.pre_scale_post_talking_heads,
                 .softclamp_logits = c.softclamp_logits,
                 .logit_softclamp_value = c.logit_softclamp_value,
                 .custom_attn_fn = c.custom_attn_fn};
  if (c.use_cope)
    a.cope = std::make_shared<CoPE>(CoPEConfig{.dim = c.dim_head,
                                               .heads = c.heads,
                                               .max_pos = c.cope_max_pos,
                                               .soft_onehot = c.cope_soft_onehot_pos,
                                               .talking_heads = c.cope_talking_heads});
  return a;
}

void check_config(const AttentionConfig& c, int64_t kv_heads) {
  check(c.dim > 0 && c.heads > 0 && c.dim_head > 0, "Attention: dim, heads and dim_head must be positive, got ", c.dim,
        ", ", c.heads, " and ", c.dim_head);
  check(!c.one_kv_head || !c.kv_heads, "Attention: one_kv_head and kv_heads exclude each other");
  check(kv_heads > 0 && c.heads % kv_heads == 0, "Attention: ", c.heads, " heads cannot share ", kv_heads,
        " key-value heads");
  check(c.num_mem_kv >= 0, "Attention: num_mem_kv must not be negative, got ", c.num_mem_kv);
  if (c.qk_norm) {
    check(c.qk_norm_groups > 0 && c.dim_head % c.qk_norm_groups == 0, "Attention: dim_head ", c.dim_head,
          " does not split into qk_norm_groups ", c.qk_norm_groups);
    check(c.dim_head / c.qk_norm_groups > 2, "Attention: qk_norm_groups ", c.qk_norm_groups, " leave ",
          c.dim_head / c.qk_norm_groups, " features a group; at least 3 are needed");
  }
  check(!c.data_dependent_alibi || !c.data_dependent_alibi_per_row || c.causal,
        "Attention: data_dependent_alibi_per_row needs causal attention");
  check(!c.use_latent_q || c.dim_latent_q, "Attention: use_latent_q needs dim_latent_q");
  check(!c.use_latent_kv || c.dim_latent_kv, "Attention: use_latent_kv needs dim_latent_kv");
  check(
      !c.use_latent_kv || !c.qkv_receive_diff_residuals,
      "Attention: use_latent_kv and qkv_receive_diff_residuals exclude each other: keys and values share their input");
  if (c.latent_rope_subheads) {
    check(c.use_latent_kv, "Attention: latent_rope_subheads needs use_latent_kv");
    check(!c.rotate_num_heads, "Attention: rotate_num_heads and latent_rope_subheads exclude each other");
    check(*c.latent_rope_subheads > 0 && *c.latent_rope_subheads < kv_heads, "Attention: latent_rope_subheads ",
          *c.latent_rope_subheads, " of ", kv_heads, " heads");
  }
  check(!c.hybrid_mask_kwarg || *c.hybrid_mask_kwarg == "mask", "Attention: hybrid_mask_kwarg can only be mask, not ",
        c.hybrid_mask_kwarg.value_or(""));
  const auto rotated = c.latent_rope_subheads ? c.latent_rope_subheads : c.rotate_num_heads;
  check(!rotated || (*rotated > 0 && *rotated <= c.heads), "Attention: rotate_num_heads ", rotated.value_or(0), " of ",
        c.heads, " heads");
  check(!rotated || *rotated == c.heads || kv_heads == c.heads, "Attention: rotating ", rotated.value_or(0), " of ",
        c.heads, " heads needs as many key-value heads, not ", kv_heads,
        ": a key that heads share cannot turn for some of them");
}

}  // namespace

Fields fields(AttentionConfig& c) {
  Fields f{{"dim", &c.dim}, {"heads", &c.heads}, {"causal", &c.causal}};
  WEFT_XT_ATTENTION_OPTIONS(WEFT_XT_FIELD, )
  f.emplace_back("rotate_num_heads", &c.rotate_num_heads);
  f.emplace_back("learned_value_residual_mix", &c.learned_value_residual_mix);
  f.emplace_back("qkv_receive_diff_residuals", &c.qkv_receive_diff_residuals);
  return f;
}

Attention::Attention(const AttentionConfig& c)
    : config_(c), kv_heads_(c.one_kv_head ? 1 : c.kv_heads.value_or(c.heads)) {
  check_config(c, kv_heads_);
  const int64_t dim_kv = c.dim_context.value_or(c.dim), dim_value = c.value_dim_head.value_or(c.dim_head);
  const int64_t out_dim = dim_value * c.heads, dim_out = c.dim_out.value_or(c.dim);
  const auto projection = [&](const char* name, int64_t from, int64_t to, bool bias = false) {
    return register_module(name, std::make_shared<Linear>(from, to, bias));
  };
  if (c.use_latent_q) to_latent_q_ = projection("to_latent_q", c.dim, *c.dim_latent_q);
  if (c.use_latent_kv) to_latent_kv_ = projection("to_latent_kv", dim_kv, *c.dim_latent_kv);
  const int64_t subheads = c.latent_rope_subheads.value_or(0);
  if (subheads > 0) to_rotateable_k_ = projection("to_rotateable_k", dim_kv, c.dim_head * subheads);
  const int64_t q_from = c.use_latent_q ? *c.dim_latent_q : c.dim,
                kv_from = c.use_latent_kv ? *c.dim_latent_kv : dim_kv;
  to_q_ = projection("to_q", q_from, c.dim_head * c.heads);
  to_k_ = projection("to_k", kv_from, c.dim_head * (kv_heads_ - subheads));
  to_v_ = projection("to_v", kv_from, dim_value * kv_heads_);

  const auto open_gate = [&](const char* name, int64_t features) {  // starts at sigmoid(10)
    const auto gate = projection(name, c.dim, features, true);
    init::zeros_(gate->weight), init::constant_(gate->bias, 10);
    return gate;
  };
  if (c.gate_values) to_v_gate_ = open_gate("to_v_gate", out_dim);
  if (c.gate_value_heads) to_v_head_gate_ = open_gate("to_v_head_gate", c.heads);
  if (c.qk_norm && c.qk_norm_dim_scale) {
    qk_norm_q_scale_ = register_parameter("qk_norm_q_scale", ones({c.heads, 1, c.dim_head}));
    qk_norm_k_scale_ = register_parameter("qk_norm_k_scale", ones({kv_heads_, 1, c.dim_head}));
  }
  if (c.data_dependent_alibi) {
    const auto options = c.data_dependent_alibi_kwargs.value_or(DataDependentAlibiKwargs{});
    if (c.data_dependent_alibi_per_row)
      forget_gates_ = std::make_shared<PerRowDataDependentAlibi>(
          c.dim, c.heads, c.data_dependent_alibi_per_row_dim_head, options.post_log_scale);
    else
      forget_gates_ = std::make_shared<DataDependentAlibi>(c.dim, c.heads, c.causal, options);
    register_module("data_dependent_alibi", forget_gates_);
  }
  attend_ = register_module("attend", std::make_shared<Attend>(attend_config(c)));
  if (c.head_scale) head_scale_params_ = register_parameter("head_scale_params", ones({1, c.heads, 1, 1}));
  if (c.num_mem_kv > 0) {
    mem_k_ = register_parameter("mem_k", randn({kv_heads_, c.num_mem_kv, c.dim_head}));
    mem_v_ = register_parameter("mem_v", randn({kv_heads_, c.num_mem_kv, dim_value}));
  }
  if (c.learned_value_residual_mix) {
    to_value_residual_mix_ = std::make_shared<Linear>(q_from, kv_heads_);
    register_module("to_value_residual_mix", std::make_shared<Sequential>(to_value_residual_mix_));
  }
  if (c.hybrid_module) {
    hybrid_module_ = register_module(
        "hybrid_module", std::make_shared<FoldAxially>(c.hybrid_fold_axial_dim.value_or(1), c.hybrid_module()));
    const auto norms = register_module("hybrid_norms", std::make_shared<ModuleList>());
    norm_ = norms->emplace_back<MultiheadRMSNorm>(dim_value, c.heads);
    hybrid_norm_ = norms->emplace_back<MultiheadRMSNorm>(dim_value, c.heads);
    if (c.hybrid_learned_mix) hybrid_mix_ = projection("hybrid_mix", c.dim, c.heads);
  }
  to_out_ = std::make_shared<Linear>(out_dim, c.on_attn ? 2 * dim_out : dim_out, false);
  if (c.on_attn)
    register_module("to_out", std::make_shared<Sequential>(to_out_));
  else
    register_module("to_out", to_out_);
  if (c.zero_init_output) init::zeros_(to_out_->weight);
}

Attention::Projected Attention::project(const Tensor& x, const SublayerArguments& a) const {
  const bool apart = config_.qkv_receive_diff_residuals;
  check(!apart || (!a.context.defined() && x.dim() == 4 && x.size(0) == 3),
        "Attention: qkv_receive_diff_residuals takes x [3, batch, length, dim] and no context, got ", x.shape());
  Tensor q_in = apart ? select(x, 0, 0) : x;
  const Tensor source = a.context.defined() ? a.context : x;
  Tensor k_in = apart ? select(x, 0, 1) : source, v_in = apart ? select(x, 0, 2) : source;
  Tensor mix_in = q_in;
  if (a.mem.defined()) {
    k_in = cat({a.mem, k_in}, 1), v_in = apart ? cat({a.mem, v_in}, 1) : k_in;
    mix_in = cat({a.mem, q_in}, 1);
  }

  Projected p;
  Tensor rotateable;
  if (to_latent_q_) q_in = to_latent_q_->forward(q_in), mix_in = to_latent_q_->forward(mix_in);
  if (to_rotateable_k_) rotateable = split_heads(to_rotateable_k_->forward(k_in), config_.dim_head);
  if (to_latent_kv_) k_in = v_in = to_latent_kv_->forward(k_in);
  Tensors qkv;  // layers that read one tensor go together; what is turned afterwards has to lie apart
  if (q_in.same_as(k_in) && k_in.same_as(v_in) && !a.rotation) {
    qkv = forward_together(q_in, {to_q_.get(), to_k_.get(), to_v_.get()});
  } else {
    qkv = {to_q_->forward(q_in)};
    for (const Tensor& y : k_in.same_as(v_in) ? forward_together(k_in, {to_k_.get(), to_v_.get()})
                                              : Tensors{to_k_->forward(k_in), to_v_->forward(v_in)})
      qkv.push_back(y);
  }
  p.q = split_heads(qkv[0], config_.dim_head), p.k = split_heads(qkv[1], config_.dim_head);
  if (rotateable.defined()) p.k = cat({p.k, rotateable}, 1);
  p.v = p.original_v = split_heads(qkv[2], config_.value_dim_head.value_or(config_.dim_head));

  if (a.value_residual.defined()) {
    const Tensor first = a.value_residual;
    if (to_value_residual_mix_) {
      const Tensor own = sigmoid(to_value_residual_mix_->forward(mix_in));  // share of this layer's: [b, m, kv_h]
      p.v = first + unsqueeze(transpose(own, 1, 2), -1) * (p.v - first);
    } else {
      p.v = (first + p.v) * 0.5;
    }
  }
  if (config_.qk_norm) {
    p.q = grouped_l2norm(p.q, config_.qk_norm_groups), p.k = grouped_l2norm(p.k, config_.qk_norm_groups);
    const auto scaled = [](const Tensor& t, const Tensor& scale) { return (t * scale).to(t.dtype()); };
    if (qk_norm_q_scale_.defined()) p.q = scaled(p.q, qk_norm_q_scale_), p.k = scaled(p.k, qk_norm_k_scale_);
  }
  return p;
}

void Attention::rotate(Projected& p, const SublayerArguments& a) const {
  if (!a.rotation) return;
  const Rotation* of_keys = a.context.defined() ? a.context_rotation : a.rotation;
  check(of_keys != nullptr, "Attention: rotary positions of the queries but none of the context");
  const int64_t h = config_.heads;
  const int64_t turning = config_.latent_rope_subheads.value_or(config_.rotate_num_heads.value_or(h));
  const auto turn = [&](const Tensor& t, const Rotation& by, bool is_key) {
    if (turning == h) return apply_rotary_pos_emb(t, by, is_key);
    return cat({slice(t, 1, 0, h - turning), apply_rotary_pos_emb(slice(t, 1, h - turning), by, is_key)}, 1);
  };
  p.q = turn(p.q, *a.rotation, false);
  if (p.k.defined()) p.k = turn(p.k, *of_keys, true);
}

// In front of the keys and values of x.
void Attention::put_learned_keys(Projected& p) const {
  Tensor mem_k = mem_k_;
  if (config_.qk_norm) mem_k = normalize(mem_k);
  if (qk_norm_k_scale_.defined()) mem_k = mem_k * qk_norm_k_scale_;
  const auto batched = [b = p.k.size(0)](const Tensor& t) { return expand(unsqueeze(t, 0), {b, -1, -1, -1}); };
  p.k = cat({batched(mem_k).to(p.k.dtype()), p.k}, 2), p.v = cat({batched(mem_v_).to(p.v.dtype()), p.v}, 2);
}

// n queries, m keys with the learned ones → bool that broadcasts to [b, h, n, m], or undefined.
Tensor Attention::combined_mask(const SublayerArguments& a, int64_t n, int64_t m) const {
  const int64_t of_x = a.context.defined() ? a.context.size(1) : n;
  Tensor all;
  const auto add = [&](const Tensor& mask) { all = all.defined() ? logical_and(all, mask) : mask; };
  Tensor keys = a.key_mask;
  if (!keys.defined() && !a.context.defined()) {
    keys = a.mask;
    if (a.mem_mask.defined()) {
      const Tensor own =
          keys.defined() ? keys : ones({a.mem_mask.size(0), n}, {.dtype = boolean, .device = a.mem_mask.device()});
      keys = cat({a.mem_mask, own}, 1);
    }
  }
  if (keys.defined()) {
    check(keys.dim() == 2 && keys.dtype() == boolean, "Attention: expected a bool mask [batch, keys], got ",
          keys.dtype(), " ", keys.shape());
    add(unsqueeze(unsqueeze(extend_given(keys, m, config_.num_mem_kv, of_x, "the mask"), 1), 1));
  }
  if (a.attn_mask.defined()) {
    check(a.attn_mask.dim() >= 2 && a.attn_mask.dim() <= 4 && a.attn_mask.dtype() == boolean,
          "Attention: expected a bool attn_mask of 2 to 4 dimensions, got ", a.attn_mask.dtype(), " ",
          a.attn_mask.shape());
    Tensor mask = extend_given(a.attn_mask, m, config_.num_mem_kv, of_x, "attn_mask");
    while (mask.dim() < 4) mask = unsqueeze(mask, 0);
    add(mask);
  }
  if (config_.max_attend_past) {
    const int64_t real = m - config_.num_mem_kv;
    const Device device = to_q_->weight.device();
    const Tensor distance = query_places(a.places, n, real, device) - places(0, real, device);
    add(extend_left(le(distance, *config_.max_attend_past), m));
  }
  return all;
}

// slopes: whether alibi's bias is left to the fused attention.
Tensor Attention::combined_bias(const Tensor& x, const SublayerArguments& a, int64_t m, bool slopes) const {
  const bool crosses = a.context.defined();
  Tensor bias = a.attn_bias;
  if (bias.defined())
    bias = extend_given(bias, m, config_.num_mem_kv, crosses ? a.context.size(1) : x.size(1), "attn_bias");
  if (forget_gates_) {
    check(!crosses || (a.context.size(1) == x.size(1) && !a.cache),
          "Attention: data_dependent_alibi needs a context of as many tokens as x, and no cache");
    const Tensor tokens = a.mem.defined() ? cat({a.mem, x}, 1) : x;
    const Tensor own = extend_left(forget_gates_->bias(tokens, x.size(1), a), m);
    bias = bias.defined() ? bias + own : own;
  }
  if (a.alibi && !slopes) {
    const Tensor own = extend_left((*a.alibi)(x.size(1), m - config_.num_mem_kv, x.device()), m);
    bias = bias.defined() ? bias + own : own;
  }
  return bias.defined() ? bias.to(x.dtype()) : bias;
}

// y [b, h, n, e] with what the hybrid module makes of x [b, n, dim].
Tensor Attention::mixed_with_hybrid(const Tensor& y, const Tensor& x, const Tensor& mask) const {
  const bool masked = config_.hybrid_mask_kwarg && !config_.causal;
  const Tensor beside = (*hybrid_module_)(x, masked ? mask : Tensor());
  check(beside.shape() == Shape{y.size(0), y.size(2), y.size(1) * y.size(3)}, "Attention: hybrid_module must give [",
        y.size(0), ", ", y.size(2), ", ", y.size(1) * y.size(3), "], not ", beside.shape());
  const Tensor own = (*norm_)(y), other = (*hybrid_norm_)(split_heads(beside, y.size(3)));
  if (!hybrid_mix_) return (own + other) * 0.5;
  return own + unsqueeze(transpose(sigmoid(hybrid_mix_->forward(x)), 1, 2), -1) * (other - own);
}

Tensor Attention::operator()(const Tensor& x, const SublayerArguments& a, Intermediates* out) const {
  check(x.dim() >= 3 && x.size(-1) == config_.dim, "Attention: expected x [batch, length, ", config_.dim, "], got ",
        x.shape());
  const Tensor own = x.dim() == 4 ? select(x, 0, 0) : x;  // what gates read
  const int64_t n = own.size(1);
  check(!a.cache || !hybrid_module_, "Attention: a hybrid_module cannot be cached");

  Projected p;
  if (a.cache && a.context.defined() && a.cache->k.size() > 0) {  // the context's keys and values are there already
    SublayerArguments no_keys = a;
    no_keys.context = slice(a.context, 1, 0, 0), no_keys.value_residual = {};
    p = project(x, no_keys), p.k = Tensor();
    rotate(p, a);
  } else {
    p = project(x, a);
    rotate(p, a);
    if (mem_k_.defined() && (!a.cache || a.cache->k.size() == 0)) put_learned_keys(p);
    if (a.cache) {
      const int64_t capacity = a.context.defined() ? 0 : a.cache->capacity + config_.num_mem_kv;
      a.cache->k.append(p.k, 2, capacity), a.cache->v.append(p.v, 2, capacity);
    }
  }
  const Tensor k = a.cache ? a.cache->k.get() : p.k;
  Tensor v = a.cache ? a.cache->v.get() : p.v;
  const int64_t m = k.size(2), learned = config_.num_mem_kv;
  if (out) out->values = p.original_v, out->k = slice(k, 2, learned), out->v = slice(v, 2, learned);
  if (config_.laser) v = exp(tanh(v / config_.laser_softclamp_value) * config_.laser_softclamp_value);

  const bool slopes = a.alibi && learned == 0 && !config_.add_zero_kv && attend_->is_fused(a.prev_attn, out);
  const AttendArguments given{.mask = combined_mask(a, n, m),
                              .bias = combined_bias(own, a, m, slopes),
                              .alibi_slopes = slopes ? a.alibi->slopes_of_heads() : Tensor(),
                              .prev_attn = a.prev_attn,
                              .places = after(a.places, learned),
                              .first = learned + (a.mem.defined() ? a.mem.size(1) : a.memories),
                              .cache = a.cache};
  Tensor y = (*attend_)(p.q, k, v, given, out);  // [b, h, n, e]

  if (config_.laser) y = log(clamp_min(y, 1e-20));
  if (head_scale_params_.defined()) y = y * head_scale_params_;
  if (to_v_head_gate_) y = y * unsqueeze(transpose(sigmoid(to_v_head_gate_->forward(own)), 1, 2), -1);
  if (hybrid_module_) y = mixed_with_hybrid(y, own, a.mask);
  y = merge_heads(y);
  if (to_v_gate_) {
    const Tensor gates = to_v_gate_->forward(own);
    y = y * (config_.swiglu_values ? silu(gates) : sigmoid(gates));
  }
  y = to_out_->forward(y);
  if (config_.on_attn) {
    const Tensors halves = chunk(y, 2, -1);
    y = halves[0] * sigmoid(halves[1]);
  }
  return a.mask.defined() ? where(unsqueeze(a.mask, -1), y, 0) : y;
}

}  // namespace weft::xt
