// x-transformers: the layers, and the parts of torch.nn that may stand in a config.
#include <weft/nn/xt/feed_forward.h>
#include <weft/nn/xt/hyper_connection.h>
#include <weft/nn/xt/wrappers.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/shape.h>

#include "xt_arguments.h"

namespace weft::parity {
namespace {

using namespace weft::xt;

// --- layers

template <class M>
Factory layers(const char* owner) {
  return [owner](const Json& config) -> Subject {
    const auto m = std::make_shared<M>(layers_config(config, owner));
    return {m, [m](Arguments& a) -> Tensors {
              no_method(a);
              a.bind({"x", "context", "mask", "context_mask", "attn_mask", "self_attn_kv_mask", "mems", "mem_masks",
                      "seq_start_pos", "cache", "cache_age", "return_hiddens", "rotary_pos_emb", "pos", "context_pos",
                      "attn_bias", "condition", "in_attn_cond", "layers_execute_order"});
              const Call call = layers_call(a);
              a.flag("return_hiddens", false);
              return {(*m)(a.tensor("x"), call)};
            }};
  };
}

Subject attention(const Json& config) {
  const auto m = std::make_shared<Attention>(attention_config(config));
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"x", "context", "mask", "context_mask", "attn_mask", "rel_pos", "attn_bias", "rotary_pos_emb",
                    "context_rotary_pos_emb", "pos", "prev_attn", "mem", "mem_mask", "return_intermediates", "cache",
                    "value_residual"});
            SublayerArguments s;
            s.mask = a.tensor_or_none("mask"), s.key_mask = a.tensor_or_none("context_mask");
            s.context = a.tensor_or_none("context"), s.attn_mask = a.tensor_or_none("attn_mask");
            s.attn_bias = a.tensor_or_none("attn_bias"), s.prev_attn = a.tensor_or_none("prev_attn");
            s.mem = a.tensor_or_none("mem"), s.mem_mask = a.tensor_or_none("mem_mask");
            s.value_residual = a.tensor_or_none("value_residual");
            const auto own = rotation(a, "rotary_pos_emb"), of_context = rotation(a, "context_rotary_pos_emb");
            s.rotation = own ? &*own : nullptr, s.context_rotation = of_context ? &*of_context : nullptr;
            a.flag("return_intermediates", false);
            return {(*m)(a.tensor("x"), s, nullptr)};
          }};
}

Tensors call_of_one(const std::shared_ptr<Module>& m, Arguments& a) {
  no_method(a);
  a.bind({"x"});
  return {m->forward(a.tensor("x"))};
}

Subject feed_forward(const Json& config) {
  const auto m = std::make_shared<FeedForward>(read_config<FeedForwardConfig>(config, "FeedForward"));
  return {m, [m](Arguments& a) { return call_of_one(m, a); }};
}

// --- norms, positions, residuals

template <class M>
Factory norm(const char* owner) {
  return [owner](const Json& config) -> Subject {
    Json json = config;
    if constexpr (std::is_same_v<M, SimpleRMSNorm>) drop(json, {"unit_offset"});  // has no scale
    Options o(json, owner);
    std::shared_ptr<xt::Norm> m;
    const auto dim = o.get<int64_t>("dim");
    if constexpr (std::is_same_v<M, MultiheadRMSNorm>)
      m = std::make_shared<M>(dim, o.get<int64_t>("heads"));
    else if constexpr (std::is_base_of_v<AdaptiveNorm, M>)
      m = std::make_shared<M>(dim, o.maybe("dim_condition"));
    else if constexpr (std::is_constructible_v<M, int64_t, bool>)
      m = std::make_shared<M>(dim, o.get<bool>("unit_offset", false));
    else
      m = std::make_shared<M>(dim);
    o.finish();
    return {m, [m](Arguments& a) -> Tensors {
              no_method(a);
              a.bind({"x"});
              return {(*m)(a.tensor("x"), a.tensor_or_none("condition"))};
            }};
  };
}

Subject position(const std::shared_ptr<PositionEmbedding>& m) {
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"x", "pos", "seq_start_pos"});
            const Tensor x = a.tensor("x"), start = a.tensor_or_none("seq_start_pos");
            Tensor pos = a.tensor_or_none("pos");
            if (!pos.defined()) pos = arange(x.size(1)).to(x.device());
            m->check_length(x.size(1));
            return {m->forward(start.defined() ? pos - start.unsqueeze(-1) : pos)};
          }};
}

Subject absolute(const Json& config) {
  Options o(config, "AbsolutePositionalEmbedding");
  const auto dim = o.get<int64_t>("dim"), length = o.get<int64_t>("max_seq_len");
  const bool l2norm = o.get<bool>("l2norm_embed", false);
  o.finish();
  return position(std::make_shared<AbsolutePositionalEmbedding>(dim, length, l2norm));
}

Subject sinusoidal(const Json& config) {
  Options o(config, "ScaledSinusoidalEmbedding");
  const auto dim = o.get<int64_t>("dim");
  const auto theta = o.get<double>("theta", 10000.0);
  o.finish();
  return position(std::make_shared<ScaledSinusoidalEmbedding>(dim, theta));
}

Subject bias(const std::shared_ptr<PositionBias>& m) {
  return {m, [m](Arguments& a) -> Tensors {
            if (a.method() == "forward_custom_pos") {
              a.bind({"pos_i"});
              return {std::dynamic_pointer_cast<AlibiPositionalBias>(m)->at(a.tensor("pos_i"))};
            }
            no_method(a);
            a.bind({"i", "j"});
            return {(*m)(a.integer("i", 0), a.integer("j", 0))};
          }};
}

Subject t5(const Json& config) {
  Options o(config, "RelativePositionBias");
  const RelativePositionBiasConfig c{.scale = o.get<double>("scale"),
                                     .causal = o.get<bool>("causal", false),
                                     .num_buckets = o.get<int64_t>("num_buckets", 32),
                                     .max_distance = o.get<int64_t>("max_distance", 128),
                                     .heads = o.get<int64_t>("heads", 8)};
  o.finish();
  return bias(std::make_shared<RelativePositionBias>(c));
}

Subject dynamic(const Json& config) {
  Options o(config, "DynamicPositionBias");
  const DynamicPositionBiasConfig c{.dim = o.get<int64_t>("dim"),
                                    .heads = o.get<int64_t>("heads"),
                                    .depth = o.get<int64_t>("depth"),
                                    .log_distance = o.get<bool>("log_distance", false),
                                    .norm = o.get<bool>("norm", false)};
  o.finish();
  return bias(std::make_shared<DynamicPositionBias>(c));
}

Subject alibi(const Json& config) {
  Options o(config, "AlibiPositionalBias");
  const auto heads = o.get<int64_t>("heads");
  const auto total = o.maybe("total_heads");
  const auto slopes = o.get<std::vector<double>>("slopes", std::vector<double>{});
  o.finish();
  return bias(std::make_shared<AlibiPositionalBias>(heads, total, slopes));
}

Subject rotary(const Json& config) {
  const auto m = std::make_shared<xt::RotaryEmbedding>(read_config<RotaryEmbeddingConfig>(config, "RotaryEmbedding"));
  return {m, [m](Arguments& a) -> Tensors {
            Tensor t;
            if (a.method() == "forward_from_seq_len") {
              a.bind({"seq_len"});
              t = arange(a.integer("seq_len", 0));
            } else {
              no_method(a);
              a.bind({"t"});
              t = a.tensor("t");
            }
            Tensors out{m->forward(t)};
            if (const Tensor scale = m->at(t).scale; scale.defined()) {
              const Tensor s = (scale.dim() == 2 ? scale.unsqueeze(0) : scale).unsqueeze(-1);
              Shape twice = s.shape();
              twice.back() = 2;
              out.push_back(s.expand(twice).flatten(-2, -1));
            }
            return out;
          }};
}

Subject joins(const std::shared_ptr<ResidualFn>& m) {
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"x", "residual"});
            return {m->combine(a.tensor("x"), m->prepare(a.tensor("residual")))};
          }};
}

Subject residual(const Json& config) {
  Json json = config;
  drop(json, {"layer_index"});  // of all that may stand here, HyperConnection alone reads it
  Options o(json, "Residual");
  const auto dim = o.get<int64_t>("dim");
  const bool scaled = o.get<bool>("scale_residual", false);
  const auto constant = o.get<double>("scale_residual_constant", 1.0);
  o.finish();
  return joins(std::make_shared<Residual>(dim, scaled, constant));
}

Subject gru(const Json& config) {
  Json json = config;
  drop(json, {"layer_index", "scale_residual_constant"});
  Options o(json, "GRUGating");
  const auto dim = o.get<int64_t>("dim");
  const bool scaled = o.get<bool>("scale_residual", false);
  o.finish();
  return joins(std::make_shared<GRUGating>(dim, scaled));
}

Subject shift_tokens(const Json& config) {
  Options o(config, "ShiftTokens");
  const auto shifts = o.get<std::vector<int64_t>>("shifts");
  const auto fn = build_nested<Sublayer>(kPackage, o.get<Json>("fn"));
  o.finish();
  for (size_t i = 1; i < shifts.size(); ++i)
    check(shifts[i] == shifts[0] + static_cast<int64_t>(i), "shifts must rise");
  const auto m = std::make_shared<ShiftTokens>(shifts.at(0), shifts.back(), fn);
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"x"});
            SublayerArguments s;
            s.mask = s.shift_mask = a.tensor_or_none("mask");
            return {(*m)(a.tensor("x"), s, nullptr)};
          }};
}

// --- parts of torch.nn that may stand in a config

Subject gru_layer(const Json& config) {
  Json json = config;
  check(extract(json, "batch_first") == true, "GRU: only batch_first");
  drop(json, {"dropout"});
  Options o(json, "GRU");
  const auto m = std::make_shared<weft::GRU>(GRUConfig{.input_size = o.get<int64_t>("input_size"),
                                                       .hidden_size = o.get<int64_t>("hidden_size"),
                                                       .num_layers = o.get<int64_t>("num_layers", 1),
                                                       .bias = o.get<bool>("bias", true),
                                                       .bidirectional = o.get<bool>("bidirectional", false)});
  o.finish();
  return {m, [m](Arguments& a) { return call_of_one(m, a); }};
}

Subject linear_layer(const Json& config) {
  Options o(config, "Linear");
  const auto m = std::make_shared<Linear>(o.get<int64_t>("in_features"), o.get<int64_t>("out_features"),
                                          o.get<bool>("bias", true));
  o.finish();
  return {m, [m](Arguments& a) { return call_of_one(m, a); }};
}

Subject embedding_layer(const Json& config) {
  Options o(config, "Embedding");
  const auto m = std::make_shared<Embedding>(o.get<int64_t>("num_embeddings"), o.get<int64_t>("embedding_dim"));
  o.finish();
  return {m, [m](Arguments& a) { return call_of_one(m, a); }};
}

Subject token_embedding(const Json& config) {
  Options o(config, "TokenEmbedding");
  const auto m = std::make_shared<TokenEmbedding>(o.get<int64_t>("dim"), o.get<int64_t>("num_tokens"),
                                                  o.get<bool>("l2norm_embed", false));
  o.finish();
  return {m, [m](Arguments& a) { return call_of_one(m, a); }};
}

// A sublayer's wrapper, around "fn".
Subject wrapper(const std::shared_ptr<Sublayer>& m) {
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"x"});
            SublayerArguments s;
            s.mask = a.tensor_or_none("mask"), s.condition = a.tensor_or_none("condition");
            return {(*m)(a.tensor("x"), s, nullptr)};
          }};
}

Subject scale(const Json& config) {
  Options o(config, "Scale");
  const auto value = o.get<double>("value");
  const auto fn = build_nested<Sublayer>(kPackage, o.get<Json>("fn"));
  o.finish();
  return wrapper(std::make_shared<Scale>(value, fn));
}

Subject layer_scale(const Json& config) {
  Options o(config, "LayerScale");
  const auto fn = build_nested<Sublayer>(kPackage, o.get<Json>("fn"));
  const auto dim = o.get<int64_t>("dim");
  const auto init = o.get<double>("init_value", 0.0);
  const bool unit_offset = o.get<bool>("unit_offset", false);
  o.finish();
  return wrapper(std::make_shared<LayerScale>(fn, dim, init, unit_offset));
}

Subject adaptive_layer_scale(const Json& config) {
  Options o(config, "AdaptiveLayerScale");
  const auto fn = build_nested<Sublayer>(kPackage, o.get<Json>("fn"));
  const auto dim = o.get<int64_t>("dim"), condition = o.maybe("dim_condition").value_or(dim);
  const auto init = o.get<double>("init_bias_value", -2.0);
  o.finish();
  return wrapper(std::make_shared<AdaptiveLayerScale>(fn, dim, condition, init));
}

Subject cope(const Json& config) {
  Options o(config, "CoPE");
  const CoPEConfig c{.dim = o.get<int64_t>("dim"),
                     .heads = o.get<int64_t>("heads"),
                     .max_pos = o.get<int64_t>("max_pos"),
                     .soft_onehot = o.get<bool>("soft_onehot", false),
                     .talking_heads = o.get<bool>("talking_heads", false),
                     .soft_onehot_temp = o.get<double>("soft_onehot_temp", 5e-2)};
  o.finish();
  const auto m = std::make_shared<CoPE>(c);
  return {m, [m, mixes = c.talking_heads](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"query", "attn_logits"});
            const Tensor scores = a.tensor("attn_logits");
            const int64_t n = scores.size(-2), k = scores.size(-1);
            const Tensor ahead = gt(arange(k), unsqueeze(arange(k - n, k), -1));  // with talking heads it hides these
            const Tensor hidden = mixes ? ahead : zeros({n, k}, {.dtype = boolean});
            return {(*m)(a.tensor("query"), scores, hidden.to(scores.device()))};
          }};
}

Subject forget_gates(const std::shared_ptr<ForgetGates>& m) {
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"x"});
            const Tensor x = a.tensor("x");
            return {m->bias(x, x.size(1), xt::SublayerArguments{})};
          }};
}

Subject data_dependent_alibi(const Json& config) {
  Options o(config, "DataDependentAlibi");
  const auto dim = o.get<int64_t>("dim"), heads = o.get<int64_t>("heads");
  const bool causal = o.get<bool>("causal", true);
  const DataDependentAlibiKwargs rest{.bias_init = o.get<double>("bias_init", 5.0),
                                      .post_log_scale = o.get<double>("post_log_scale", 1.0)};
  o.finish();
  return forget_gates(std::make_shared<DataDependentAlibi>(dim, heads, causal, rest));
}

Subject per_row_data_dependent_alibi(const Json& config) {
  Options o(config, "PerRowDataDependentAlibi");
  const auto dim = o.get<int64_t>("dim"), heads = o.get<int64_t>("heads"), head = o.get<int64_t>("dim_head", 8);
  check(o.get<bool>("causal", true), "PerRowDataDependentAlibi: only causal");
  const auto scale = o.get<double>("post_log_scale", 1.0);
  o.finish();
  return forget_gates(std::make_shared<PerRowDataDependentAlibi>(dim, heads, head, scale));
}

Subject fold_axially(const Json& config) {
  Options o(config, "FoldAxially");
  const auto axial_dim = o.get<int64_t>("axial_dim");
  const auto m = std::make_shared<FoldAxially>(axial_dim, build_nested_module(kPackage, o.get<Json>("fn")));
  o.finish();
  return {m, [m](Arguments& a) { return call_of_one(m, a); }};
}

}  // namespace

void add_xt_layers(Table& t) {
  const auto add = [&t](const char* name, Factory f) { t[std::string(kPackage) + "." + name] = std::move(f); };
  add("Attention", attention);
  add("FeedForward", feed_forward);
  add("AttentionLayers", layers<AttentionLayers>("AttentionLayers"));
  add("Encoder", layers<Encoder>("Encoder"));
  add("Decoder", layers<Decoder>("Decoder"));
  add("PrefixDecoder", layers<PrefixDecoder>("PrefixDecoder"));
  add("CrossAttender", layers<CrossAttender>("CrossAttender"));
  add("LayerNorm", norm<xt::LayerNorm>("LayerNorm"));
  add("RMSNorm", norm<xt::RMSNorm>("RMSNorm"));
  add("ScaleNorm", norm<xt::ScaleNorm>("ScaleNorm"));
  add("SimpleRMSNorm", norm<SimpleRMSNorm>("SimpleRMSNorm"));
  add("AdaptiveLayerNorm", norm<AdaptiveLayerNorm>("AdaptiveLayerNorm"));
  add("AdaptiveRMSNorm", norm<AdaptiveRMSNorm>("AdaptiveRMSNorm"));
  add("MultiheadRMSNorm", norm<MultiheadRMSNorm>("MultiheadRMSNorm"));
  add("AbsolutePositionalEmbedding", absolute);
  add("ScaledSinusoidalEmbedding", sinusoidal);
  add("RelativePositionBias", t5);
  add("DynamicPositionBias", dynamic);
  add("AlibiPositionalBias", alibi);
  add("RotaryEmbedding", rotary);
  add("Residual", residual);
  add("GRUGating", gru);
  add("ShiftTokens", shift_tokens);
  add("FoldAxially", fold_axially);
  add("Scale", scale);
  add("LayerScale", layer_scale);
  add("AdaptiveLayerScale", adaptive_layer_scale);
  add("CoPE", cope);
  add("DataDependentAlibi", data_dependent_alibi);
  add("PerRowDataDependentAlibi", per_row_data_dependent_alibi);
  add("ReluSquared", [](const Json& config) -> Subject {
    check(config.empty(), "ReluSquared: takes no options");
    return {nullptr, [](Arguments& a) -> Tensors {
              no_method(a);
              a.bind({"x"});
              return {square(relu(a.tensor("x")))};
            }};
  });
  add("TokenEmbedding", token_embedding);
  add("GRU", gru_layer);
  add("Linear", linear_layer);
  add("Embedding", embedding_layer);
}

}  // namespace weft::parity
