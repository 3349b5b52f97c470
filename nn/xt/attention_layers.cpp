#include <weft/nn/activation.h>
#include <weft/nn/container.h>
#include <weft/nn/xt/attention_layers.h>
#include <weft/nn/xt/hyper_connection.h>
#include <weft/nn/xt/layer.h>
#include <weft/nn/xt/wrappers.h>
#include <weft/ops/create.h>

#include <algorithm>
#include <cmath>

namespace weft::xt {
namespace {

// At most one of these; an error names those that are on.
void at_most_one(std::initializer_list<std::pair<bool, const char*>> options) {
  std::string on;
  int count = 0;
  for (const auto& [is_on, name] : options)
    if (is_on) on += (count++ ? " and " : "") + std::string(name);
  check(count <= 1, "AttentionLayers: ", on, " exclude each other");
}

void check_config(const AttentionLayersConfig& c) {
  check(c.dim > 0 && c.heads > 0, "AttentionLayers: dim and heads must be positive, got ", c.dim, " and ", c.heads);
  at_most_one({{c.use_scalenorm, "use_scalenorm"},
               {c.use_rmsnorm, "use_rmsnorm"},
               {c.use_simple_rmsnorm, "use_simple_rmsnorm"},
               {c.use_adaptive_layernorm, "use_adaptive_layernorm"},
               {c.use_adaptive_rmsnorm, "use_adaptive_rmsnorm"}});
  at_most_one({{c.rel_pos_bias, "rel_pos_bias"},
               {c.dynamic_pos_bias, "dynamic_pos_bias"},
               {c.alibi_pos_bias, "alibi_pos_bias"},
               {c.attn_data_dependent_alibi, "attn_data_dependent_alibi"}});
  at_most_one({{c.use_layerscale, "use_layerscale"}, {c.use_adaptive_layerscale, "use_adaptive_layerscale"}});
  at_most_one({{c.sandwich_norm, "sandwich_norm"}, {c.resi_dual, "resi_dual"}});
  at_most_one({{c.resi_dual, "resi_dual"}, {c.num_residual_streams > 1, "num_residual_streams above 1"}});
  at_most_one({{c.gate_residual, "gate_residual"}, {c.num_residual_streams > 1, "num_residual_streams above 1"}});
  at_most_one({{c.attn_flash, "attn_flash"}, {c.residual_attn, "residual_attn"}});
  at_most_one(
      {{c.cross_attn_flash.value_or(c.attn_flash), "attn_flash"}, {c.cross_residual_attn, "cross_residual_attn"}});
  check(c.num_residual_streams > 0, "AttentionLayers: num_residual_streams must be positive, got ",
        c.num_residual_streams);
  check(c.num_residual_streams > 1 || !c.qkv_receive_diff_residuals,
        "AttentionLayers: qkv_receive_diff_residuals needs num_residual_streams above 1");
  for (const double p : c.layer_dropout.values)
    check(p >= 0 && p <= 1, "AttentionLayers: layer_dropout must be in [0, 1], got ", p);
  check(c.pre_norm || !c.sandwich_norm, "AttentionLayers: sandwich_norm needs pre_norm");
  check(c.resi_dual_scale > 0 && c.resi_dual_scale <= 1, "AttentionLayers: resi_dual_scale must be in (0, 1], got ",
        c.resi_dual_scale);
  check(!c.rotary_xpos || c.causal, "AttentionLayers: rotary_xpos needs causal attention");
  check(c.rel_pos_num_buckets <= c.rel_pos_max_distance, "AttentionLayers: rel_pos_num_buckets ", c.rel_pos_num_buckets,
        " are more than rel_pos_max_distance ", c.rel_pos_max_distance);
}

AttentionConfig attention_config(const AttentionLayersConfig& c, bool cross) {
  AttentionConfig a{.dim = c.dim, .heads = c.heads, .causal = c.causal && !cross};
#define WEFT_XT_TAKE(P, TYPE, NAME, DEFAULT, DOC, FILE) \
  a.NAME = c.attn_##NAME;                               \
  if (cross && c.cross_attn_##NAME.has_value()) a.NAME = *c.cross_attn_##NAME;
  WEFT_XT_ATTENTION_OPTIONS(WEFT_XT_TAKE, )
#undef WEFT_XT_TAKE
  a.zero_init_output |= c.zero_init_branch_output;
  a.custom_attn_fn = cross && c.cross_attn_custom_attn_fn ? c.cross_attn_custom_attn_fn : c.attn_custom_attn_fn;
  a.hybrid_module = cross && c.cross_attn_hybrid_module ? c.cross_attn_hybrid_module : c.attn_hybrid_module;
  if (cross) {  // these are about the order of tokens
    a.use_cope = c.cross_attn_use_cope.value_or(false), a.selective = c.cross_attn_selective.value_or(false);
    a.data_dependent_alibi = c.cross_attn_data_dependent_alibi.value_or(false);
    a.data_dependent_alibi_per_row = c.cross_attn_data_dependent_alibi_per_row.value_or(false);
    if (!a.use_latent_kv) a.latent_rope_subheads = {};
  } else {
    a.rotate_num_heads = c.rotate_num_heads;
    a.qkv_receive_diff_residuals = c.qkv_receive_diff_residuals;
  }
  return a;
}

FeedForwardConfig feed_forward_config(const AttentionLayersConfig& c) {
  FeedForwardConfig f{.dim = c.dim};
#define WEFT_XT_TAKE(P, TYPE, NAME, DEFAULT, DOC, FILE) f.NAME = c.ff_##NAME;
  WEFT_XT_FEED_FORWARD_OPTIONS(WEFT_XT_TAKE, )
#undef WEFT_XT_TAKE
  f.zero_init_output |= c.zero_init_branch_output;
  return f;
}

RotaryEmbeddingConfig rotary_config(const AttentionLayersConfig& c) {
  const int64_t dim = c.rotary_emb_dim.value_or(c.attn_dim_head / 2);
  check(dim + dim % 2 <= c.attn_dim_head, "AttentionLayers: rotary_emb_dim ", dim, " is more than attn_dim_head ",
        c.attn_dim_head);
  return {.dim = dim,
          .use_xpos = c.rotary_xpos,
          .scale_base = c.rotary_xpos_scale_base,
          .interpolation_factor = c.rotary_interpolation_factor,
          .base_rescale_factor = c.rotary_base_rescale_factor};
}

AttentionLayersConfig causal_or_not(AttentionLayersConfig c, bool causal, const char* owner) {
  check(!c.causal, owner, ": causal cannot be set");
  c.causal = causal;
  return c;
}

}  // namespace

Fields fields(AttentionLayersConfig& c) {
  Fields f{{"dim", &c.dim}, {"depth", &c.depth}, {"heads", &c.heads}};
  WEFT_XT_LAYERS_OPTIONS(WEFT_XT_FIELD, WEFT_XT_FIELD, )
  f.emplace_back("causal", &c.causal);
  return f;
}

bool AttentionLayers::needs_condition() const {
  return config_.use_adaptive_layernorm || config_.use_adaptive_rmsnorm || config_.use_adaptive_layerscale;
}
int64_t AttentionLayers::condition_features() const {
  return config_.dim_condition.value_or(config_.dim) *
         (config_.adaptive_condition_mlp ? config_.adaptive_condition_mlp_expansion : 1);
}
bool AttentionLayers::disable_abs_pos_emb() const {
  return config_.disable_abs_pos_emb.value_or(config_.rel_pos_bias || rotary_pos_emb_ != nullptr);
}

static std::string hybrid_state(const AttentionLayersConfig& c) {
  return c.attn_hybrid_module || c.cross_attn_hybrid_module ? "attn_hybrid_module has a state of its own" : "";
}

std::string AttentionLayers::why_no_cache() const {
  const AttentionLayersConfig& c = config_;
  if (!c.causal) return "its attention is not causal";
  return hybrid_state(c);
}

std::string PrefixDecoder::why_no_cache() const {
  const std::vector<int64_t>& shifts = config().shift_tokens.values;
  const bool shifted = std::any_of(shifts.begin(), shifts.end(), [](int64_t by) { return by != 0; });
  return shifted ? "shift_tokens reads what follows" : hybrid_state(config());
}

std::shared_ptr<Norm> AttentionLayers::make_norm() const {
  const AttentionLayersConfig& c = config_;
  if (c.use_scalenorm) return std::make_shared<ScaleNorm>(c.dim, c.norm_add_unit_offset);
  if (c.use_rmsnorm) return std::make_shared<RMSNorm>(c.dim, c.norm_add_unit_offset);
  if (c.use_simple_rmsnorm) return std::make_shared<SimpleRMSNorm>(c.dim);
  if (c.use_adaptive_layernorm) return std::make_shared<AdaptiveLayerNorm>(c.dim, condition_features());
  if (c.use_adaptive_rmsnorm) return std::make_shared<AdaptiveRMSNorm>(c.dim, condition_features());
  return std::make_shared<LayerNorm>(c.dim, c.norm_add_unit_offset);
}

std::shared_ptr<PositionBias> AttentionLayers::make_position_bias() const {
  const AttentionLayersConfig& c = config_;
  if (c.rel_pos_bias)
    return std::make_shared<RelativePositionBias>(
        RelativePositionBiasConfig{.scale = std::sqrt(static_cast<double>(c.attn_dim_head)),
                                   .causal = c.causal,
                                   .num_buckets = c.rel_pos_num_buckets,
                                   .max_distance = c.rel_pos_max_distance,
                                   .heads = c.heads});
  if (c.dynamic_pos_bias)
    return std::make_shared<DynamicPositionBias>(
        DynamicPositionBiasConfig{.dim = c.dim / 4,
                                  .heads = c.heads,
                                  .depth = c.dynamic_pos_bias_mlp_depth,
                                  .log_distance = c.dynamic_pos_bias_log_distance,
                                  .norm = c.dynamic_pos_bias_norm});
  if (c.alibi_pos_bias)
    return std::make_shared<AlibiPositionalBias>(c.alibi_num_heads.value_or(c.heads), c.heads,
                                                 c.rel_pos_kwargs.value_or(RelPosKwargs{}).slopes);
  return nullptr;
}

std::shared_ptr<Sublayer> AttentionLayers::make_sublayer(char type, bool first_attention, int64_t index) const {
  const AttentionLayersConfig& c = config_;
  std::shared_ptr<Sublayer> layer;
  if (type == 'f') {
    layer = std::make_shared<FeedForward>(feed_forward_config(c));
    if (c.macaron) layer = std::make_shared<Scale>(0.5, layer);
  } else {
    AttentionConfig a = attention_config(c, type == 'c');
    a.learned_value_residual_mix =
        type == 'a' && c.add_value_residual && c.learned_value_residual_mix && !first_attention;
    layer = std::make_shared<Attention>(a);
  }
  const int64_t shift = c.shift_tokens.at(index, static_cast<int64_t>(order_.types.size()), "shift_tokens");
  if (shift > 0) layer = std::make_shared<ShiftTokens>(c.causal ? 0 : -shift, shift, layer);
  if (c.use_layerscale)
    layer = std::make_shared<LayerScale>(layer, c.dim, c.layerscale_init_value, c.norm_add_unit_offset);
  if (c.use_adaptive_layerscale) layer = std::make_shared<AdaptiveLayerScale>(layer, c.dim, condition_features());
  return layer;
}

std::shared_ptr<ResidualFn> AttentionLayers::make_residual(char type, int64_t index) const {
  const AttentionLayersConfig& c = config_;
  if (c.num_residual_streams > 1)
    return std::make_shared<HyperConnection>(
        HyperConnectionConfig{.dim = c.dim,
                              .layer_index = index,
                              .num_residual_streams = c.num_residual_streams,
                              .num_input_views = type == 'a' && c.qkv_receive_diff_residuals ? 3 : 1,
                              .tanh = c.residual_fn_kwargs.value_or(ResidualFnKwargs{}).tanh});
  if (c.gate_residual) return std::make_shared<GRUGating>(c.dim, c.scale_residual);
  return std::make_shared<Residual>(c.dim, c.scale_residual, c.scale_residual_constant);
}

AttentionLayers::AttentionLayers(const AttentionLayersConfig& given) : config_(given) {
  config_.rotary_pos_emb |= config_.rotary_xpos;
  if (config_.resi_dual) config_.pre_norm = false;
  const AttentionLayersConfig& c = config_;
  check_config(c);
  order_ = layer_order(c);
  num_attn_layers_ = std::count(order_.types.begin(), order_.types.end(), 'a');

  if (c.num_residual_streams > 1)
    stream_emb_ = register_parameter("stream_emb", zeros({c.num_residual_streams, c.dim}));
  const auto list = register_module("layers", std::make_shared<ModuleList>());
  if (c.rotary_pos_emb)
    rotary_pos_emb_ = register_module("rotary_pos_emb", std::make_shared<RotaryEmbedding>(rotary_config(c)));
  if (rel_pos_ = make_position_bias(); rel_pos_) register_module("rel_pos", rel_pos_);
  if (needs_condition() && c.adaptive_condition_mlp) {
    adaptive_mlp_ = std::make_shared<Linear>(c.dim_condition.value_or(c.dim), condition_features(), false);
    register_module("adaptive_mlp", std::make_shared<Sequential>(adaptive_mlp_, std::make_shared<SiLU>()));
  }
  if (c.pre_norm || c.resi_dual) final_norm_ = register_module("final_norm", make_norm());
  if (c.reinject_input)
    reinject_input_proj_ = register_module("reinject_input_proj", std::make_shared<Linear>(c.dim, c.dim, false));
  if (c.learned_reinject_input_gate)
    learned_reinject_input_gate_ =
        register_module("learned_reinject_input_gate", std::make_shared<Linear>(c.dim, 1, false));

  const auto skip_list = register_module("skip_combines", std::make_shared<Numbered>());
  check(!c.unet_skips || order_.depth >= 2, "AttentionLayers: unet_skips needs a depth of 2 or more");
  int64_t skips_left = order_.depth / 2;
  bool first_attention = true;
  for (int64_t i = 0; i < static_cast<int64_t>(order_.types.size()); ++i) {
    const char type = order_.types[static_cast<size_t>(i)];
    layers_.push_back(list->push_back(std::make_shared<Layer>(
        Layer::Norms{c.pre_norm ? make_norm() : nullptr, c.sandwich_norm ? make_norm() : nullptr,
                     c.pre_norm ? nullptr : make_norm()},
        make_sublayer(type, first_attention, i), make_residual(type, i))));
    if (type == 'a') first_attention = false;

    const bool second_half = i % order_.block == 0 && 2 * (i / order_.block) >= order_.depth;
    skip_combines_.push_back(nullptr), skip_from_.push_back(0);
    if (c.unet_skips && second_half && skips_left > 0) {
      skip_from_.back() = --skips_left * order_.block;
      skip_combines_.back() = std::make_shared<Linear>(2 * c.dim, c.dim, false);
      const auto combine = std::make_shared<Numbered>("ConcatCombine");
      combine->add("combine", skip_combines_.back());
      skip_list->add(std::to_string(i), combine);
    }
  }
}

Encoder::Encoder(const AttentionLayersConfig& c) : AttentionLayers(causal_or_not(c, false, "Encoder")) {}
Decoder::Decoder(const AttentionLayersConfig& c) : AttentionLayers(causal_or_not(c, true, "Decoder")) {}
PrefixDecoder::PrefixDecoder(const AttentionLayersConfig& c)
    : AttentionLayers(causal_or_not(c, false, "PrefixDecoder")) {}

CrossAttender::CrossAttender(const AttentionLayersConfig& given)
    : AttentionLayers([&] {
        AttentionLayersConfig c = causal_or_not(given, false, "CrossAttender");
        check(!c.cross_attend && !c.only_cross, "CrossAttender: cross_attend and only_cross cannot be set");
        c.cross_attend = c.only_cross = true;
        return c;
      }()) {}

}  // namespace weft::xt
