// x-transformers.
//
// What a case's outputs are, in order: the output itself (several output heads: each), then what the call's flags add:
// return_logits_and_embeddings: the embeddings; return_mems: each layer's; return_attn: each layer's weights.
// Where the original returns an object beside the output (return_intermediates, return_attn_z_loss,
// return_logit_entropies, return_hiddens), what is in it is no output, memories and weights included.
#include <weft/nn/xt/continuous.h>
#include <weft/nn/xt/dpo.h>
#include <weft/nn/xt/feed_forward.h>
#include <weft/nn/xt/hyper_connection.h>
#include <weft/nn/xt/multi_input.h>
#include <weft/nn/xt/neo_mlp.h>
#include <weft/nn/xt/nonautoregressive_wrapper.h>
#include <weft/nn/xt/vit.h>
#include <weft/nn/xt/wrappers.h>
#include <weft/nn/xt/x_transformer.h>
#include <weft/nn/xt/xl_autoregressive_wrapper.h>
#include <weft/nn/xt/xval.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/loss.h>
#include <weft/ops/shape.h>

#include <algorithm>
#include <cmath>

#include "systems.h"

namespace weft::parity {
namespace {

using namespace weft::xt;

constexpr const char* kPackage = "x_transformers";

void as_integer(Json& value) {
  if (value.is_boolean()) value = value.get<bool>() ? 1 : 0;
  if (value.is_number_float() && value.get<double>() == std::trunc(value.get<double>())) value = value.get<int64_t>();
}

// What Python takes for an option of type T: None for False or an empty list, 1 for True, 2.0 for 2.
template <class T>
void as_option(Json& value) {
  if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, std::optional<bool>>) {
    if (value.is_null() && std::is_same_v<T, bool>) value = false;
    if (value.is_number()) value = value.get<double>() != 0;
  } else if constexpr (std::is_same_v<T, int64_t> || std::is_same_v<T, std::optional<int64_t>>) {
    as_integer(value);
  } else if constexpr (std::is_same_v<T, double>) {
    if (value.is_boolean()) value = value.get<bool>() ? 1 : 0;
  } else if constexpr (std::is_same_v<T, std::vector<int64_t>> || std::is_same_v<T, OneOrEach<int64_t>> ||
                       std::is_same_v<T, NamedIntegers>) {
    if (value.is_structured()) std::for_each(value.begin(), value.end(), as_integer);
    as_integer(value);
  }
  if (value.is_null() && !std::is_constructible_v<T, std::nullopt_t> && std::is_class_v<T>) value = Json::array();
}

template <class Config>
Config read_config(Json json, const char* owner) {
  Config config;
  for (const Field& field : fields(config))
    if (json.contains(field.name))
      std::visit(
          [&](const auto& at) {
            using At = std::decay_t<decltype(at)>;
            if constexpr (std::is_pointer_v<At>) as_option<std::remove_pointer_t<At>>(json[field.name]);
          },
          field.value);
  return config_from_json<Config>(json.dump(), owner);
}

// Takes options out of a config that say nothing about what is computed.
void drop(Json& config, std::initializer_list<const char*> names, const std::string& prefix = "") {
  for (const char* name : names) extract(config, (prefix + name).c_str());
}

// The options of attention that are no values: a module, a function, and what is for PyTorch alone.
HybridModuleFn extract_functions(Json& config, const std::string& prefix) {
  drop(config, {"onnxable", "attend_sdp_kwargs"}, prefix);
  const std::string custom = prefix + "custom_attn_fn";
  check(extract(config, custom.c_str()).is_null(), custom, " is a function, which a case cannot hold");
  const Json spec = extract(config, (prefix + "hybrid_module").c_str());
  if (spec.is_null()) return nullptr;
  return [spec] { return build_nested_module(kPackage, spec); };
}

AttentionConfig attention_config(Json json) {
  const HybridModuleFn hybrid = extract_functions(json, "");
  auto config = read_config<AttentionConfig>(json, "Attention");
  config.hybrid_module = hybrid;
  return config;
}

AttentionLayersConfig layers_config(Json json, const char* owner) {
  const HybridModuleFn own = extract_functions(json, "attn_"), cross = extract_functions(json, "cross_attn_");
  auto config = read_config<AttentionLayersConfig>(json, owner);
  config.attn_hybrid_module = own, config.cross_attn_hybrid_module = cross;
  return config;
}

XTransformerConfig x_transformer_config(Json json) {
  const HybridModuleFn enc = extract_functions(json, "enc_attn_"), dec = extract_functions(json, "dec_attn_"),
                       cross = extract_functions(json, "dec_cross_attn_");
  auto config = read_config<XTransformerConfig>(json, "XTransformer");
  config.enc_attn_hybrid_module = enc, config.dec_attn_hybrid_module = dec, config.dec_cross_attn_hybrid_module = cross;
  return config;
}

// The options of a class that has no config struct, by name.
class Options {
 public:
  Options(const Json& json, const char* owner) : json_(json), owner_(owner) {}
  template <class T>
  T get(const char* name, std::optional<T> otherwise = {}) {
    const Json value = extract(json_, name);
    if (value.is_null()) {
      check(otherwise.has_value(), owner_, ": option ", name, " is missing");
      return *otherwise;
    }
    return value.get<T>();
  }
  std::optional<int64_t> maybe(const char* name) {
    const Json value = extract(json_, name);
    return value.is_null() ? std::nullopt : std::optional(value.get<int64_t>());
  }
  void finish() const { check(json_.empty(), owner_, ": no option called ", json_.empty() ? "" : json_.begin().key()); }

 private:
  Json json_;
  const char* owner_;
};

void no_method(const Arguments& a) {
  check(a.method().empty() || a.method() == "forward", "call: no method called ", a.method());
}

// An argument that is a tensor or a number for all.
Tensor tensor_or_number(Arguments& a, const char* name) {
  if (a.is_number(name)) return scalar(a.integer(name, 0), {.dtype = int64});
  return a.tensor_or_none(name);
}

// Rotary angles given as the original's pair: the angles, each twice, and a scale (likewise, or a number that is 1).
std::optional<Rotation> rotation(Arguments& a, const char* name) {
  const Tensors pair = a.tensors(name);
  if (pair.empty()) return std::nullopt;
  const auto every_second = [](const Tensor& t) { return t.defined() ? t.unflatten(-1, {-1, 2}).select(-1, 0) : t; };
  check(pair.size() == 2, "call: argument ", name, " must be a pair");
  return Rotation{every_second(pair[0]), every_second(pair[1])};
}

// The call of AttentionLayers and of what is around it. Each reads the names that its signature has.
Call layers_call(Arguments& a) {
  Call c;
  c.mask = a.tensor_or_none("mask");
  c.context = a.tensor_or_none("context"), c.context_mask = a.tensor_or_none("context_mask");
  c.attn_mask = a.tensor_or_none("attn_mask"), c.self_attn_kv_mask = a.tensor_or_none("self_attn_kv_mask");
  c.mems = a.tensors("mems"), c.mem_masks = a.tensors("mem_masks");
  c.seq_start_pos = a.tensor_or_none("seq_start_pos");
  c.pos = a.tensor_or_none("pos"), c.context_pos = a.tensor_or_none("context_pos");
  c.attn_bias = a.tensor_or_none("attn_bias"), c.rotary_pos_emb = rotation(a, "rotary_pos_emb");
  c.condition = a.tensor_or_none("condition"), c.in_attn_cond = a.tensor_or_none("in_attn_cond");
  c.layers_execute_order = a.integers("layers_execute_order");
  c.prefix_attn_len = tensor_or_number(a, "prefix_attn_len");
  a.integer("cache_age", 1);  // says nothing without a cache
  return c;
}

struct Returns {
  bool logits_and_embeddings, mems, attn;
};

Call wrapper_call(Arguments& a, Returns& r) {
  Call c = layers_call(a);
  c.return_embeddings = a.flag("return_embeddings", false);
  c.prepend_embeds = a.tensor_or_none("prepend_embeds"), c.prepend_mask = a.tensor_or_none("prepend_mask");
  c.embed_ids = a.named_tensors("embed_ids"), c.sum_embeds = a.tensor_or_none("sum_embeds");
  if (const int64_t steps = a.integer("recycle_steps", 0); steps > 0) c.recycle_steps = steps;
  c.attn_z_loss_weight = a.number("attn_z_loss_weight", 1e-4);
  a.nothing("token_emb_kwargs"), a.nothing("to_logits_kwargs");
  c.return_attn_z_loss = a.flag("return_attn_z_loss", false);
  c.return_logit_entropies = a.flag("return_logit_entropies", false);
  const bool object = a.flag("return_intermediates", false) || c.return_attn_z_loss || c.return_logit_entropies;
  c.return_mems = a.flag("return_mems", false), c.return_attn = a.flag("return_attn", false);
  r = {a.flag("return_logits_and_embeddings", false), c.return_mems && !object,
       c.return_attn && !c.return_mems && !object};
  return c;
}

void append(Tensors& to, const Tensors& more) { to.insert(to.end(), more.begin(), more.end()); }

Tensors flattened(const TransformerOutput& out, const Returns& r) {
  Tensors all = out.logits;
  if (all.empty() || r.logits_and_embeddings) all.push_back(out.embeddings);
  if (r.mems) append(all, out.mems);
  if (r.attn)
    for (const Intermediates& i : out.intermediates.attn_intermediates) all.push_back(i.post_softmax_attn);
  return all;
}

std::shared_ptr<AttentionLayers> layers_of(Json& config) {
  return build_nested<AttentionLayers>(kPackage, extract(config, "attn_layers"));
}

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

// --- wrappers

Subject transformer(const Json& given) {
  Json config = given;
  const auto attn_layers = layers_of(config);
  const Json token_emb = extract(config, "token_emb"), to_logits = extract(config, "to_logits");
  auto options = read_config<TransformerWrapperConfig>(config, "TransformerWrapper");
  options.attn_layers = attn_layers;
  if (!token_emb.is_null()) options.token_emb = build_nested_module(kPackage, token_emb);
  if (!to_logits.is_null()) options.to_logits = build_nested_module(kPackage, to_logits);
  const auto m = std::make_shared<TransformerWrapper>(options);
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"x", "return_embeddings", "return_logits_and_embeddings", "return_intermediates",
                    "return_logit_entropies", "mask", "return_mems", "return_attn", "mems", "mem_masks",
                    "recycle_steps", "pos", "prepend_embeds", "prepend_mask", "embed_ids", "sum_embeds"});
            Returns r;
            const Call call = wrapper_call(a, r);
            return flattened(m->run(a.tensor("x"), call), r);
          }};
}

Subject vit(const Json& given) {
  Json config = given;
  const auto attn_layers = layers_of(config);
  auto options = read_config<ViTransformerWrapperConfig>(config, "ViTransformerWrapper");
  options.attn_layers = attn_layers;
  const auto m = std::make_shared<ViTransformerWrapper>(options);
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"img", "return_embeddings", "return_logits_and_embeddings"});
            const Tensor img = a.tensor("img");
            if (a.flag("return_embeddings", false)) return {(*m)(img, {.return_embeddings = true})};
            const auto out = m->run(img);
            if (a.flag("return_logits_and_embeddings", false)) return {out.logits, out.embeddings};
            return {out.logits};
          }};
}

Subject x_transformer(const Json& config) {
  const auto m = std::make_shared<XTransformer>(x_transformer_config(config));
  return {m, [m](Arguments& a) -> Tensors {
            if (a.method() != "generate") a.bind({"src", "tgt", "mask", "attn_mask", "src_prepend_embeds"});
            const XTransformer::Call call{.mask = a.tensor_or_none("mask"),
                                          .attn_mask = a.tensor_or_none("attn_mask"),
                                          .src_prepend_embeds = a.tensor_or_none("src_prepend_embeds")};
            if (a.method() == "generate") {
              a.bind({"seq_in", "seq_out_start", "seq_len"});
              return {m->generate(a.tensor("seq_in"), a.tensor("seq_out_start"), a.integer("seq_len", 0), call,
                                  {.temperature = a.number("temperature", 1), .cache_kv = a.flag("cache_kv", true)})};
            }
            no_method(a);
            return {(*m)(a.tensor("src"), a.tensor("tgt"), call)};
          }};
}

Tensors generate(xt::AutoregressiveWrapper& m, Arguments& a) {
  a.bind({"prompts", "seq_len", "eos_token", "temperature", "prompt_lens"});
  xt::GenerateOptions options{.temperature = a.number("temperature", 1),
                              .prompt_lens = a.tensor_or_none("prompt_lens"),
                              .restrict_to_max_seq_len = a.flag("restrict_to_max_seq_len", true),
                              .cache_kv = a.flag("cache_kv", true),
                              .call = layers_call(a)};
  if (const int64_t eos = a.integer("eos_token", -1); eos >= 0) options.eos_token = eos;
  return {m.generate(a.tensor("prompts"), a.integer("seq_len", 0), options)};
}

Subject autoregressive(const Json& given) {
  Json config = given;
  const Json net = extract(config, "net");
  auto options = read_config<xt::AutoregressiveWrapperConfig>(config, "AutoregressiveWrapper");
  options.net = build_nested<TransformerWrapper>(kPackage, net);
  const auto m = std::make_shared<xt::AutoregressiveWrapper>(options);
  return {m, [m](Arguments& a) -> Tensors {
            if (a.method() == "generate") return generate(*m, a);
            no_method(a);
            a.bind({"x", "return_outputs"});
            const bool outputs = a.flag("return_outputs", false);
            Returns r;
            const Call call = wrapper_call(a, r);
            const auto out = m->loss(a.tensor("x"), call);
            Tensors all{out.loss};
            if (outputs) append(all, out.outputs.logits);
            return all;
          }};
}

Subject continuous(const Json& given) {
  Json config = given;
  const auto attn_layers = layers_of(config);
  drop(config, {"emb_dim"});  // read by nobody in 2.0.4
  auto options = read_config<ContinuousTransformerWrapperConfig>(config, "ContinuousTransformerWrapper");
  options.attn_layers = attn_layers;
  const auto m = std::make_shared<ContinuousTransformerWrapper>(options);
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"x", "return_embeddings", "return_intermediates", "return_mems", "mask", "return_attn", "mems",
                    "mem_masks", "pos", "prepend_embeds", "prepend_mask"});
            Returns r;
            const Call call = wrapper_call(a, r);
            const auto out = m->run(a.tensor("x"), call);
            return flattened({.logits = {out.out}, .mems = out.mems, .intermediates = out.intermediates}, r);
          }};
}

// A loss of torch.nn, not reduced.
ElementwiseLoss elementwise_loss(const Json& spec) {
  if (spec.is_null()) return nullptr;
  const std::string name = class_name(spec);
  check(spec.value("reduction", "mean") == "none", "loss_fn: only reduction none works");
  if (name == "MSELoss") return [](const Tensor& y, const Tensor& t) { return mse_loss(y, t, Reduction::none); };
  if (name == "L1Loss") return [](const Tensor& y, const Tensor& t) { return abs(y - t); };
  fail("loss_fn: no loss called ", name, " here");
}

// A wrapper whose config holds a net, called with x (and the net's arguments) for a loss.
template <class M, class Net>
Factory loss_of(const char* owner) {
  return [owner](const Json& given) -> Subject {
    Json config = given;
    const Json net = extract(config, "net");
    typename M::Config options;
    if constexpr (std::is_same_v<M, ContinuousAutoregressiveWrapper>) {
      drop(config, {"ignore_index", "pad_value"});  // read by nobody in 2.0.4
      const ElementwiseLoss loss = elementwise_loss(extract(config, "loss_fn"));
      options = read_config<typename M::Config>(config, owner);
      options.loss_fn = loss;
    } else {
      options = read_config<typename M::Config>(config, owner);
    }
    options.net = build_nested<Net>(kPackage, net);
    const auto m = std::make_shared<M>(options);
    return {m, [m](Arguments& a) -> Tensors {
              no_method(a);
              if constexpr (std::is_same_v<M, XLAutoregressiveWrapper>)
                a.bind({"x", "mems"});
              else
                a.bind({"x"});
              Returns r;
              const Call call = wrapper_call(a, r);
              return {(*m)(a.tensor("x"), call)};
            }};
  };
}

Subject multi_input(const Json& given) {
  Json config = given;
  const auto attn_layers = layers_of(config);
  auto options = read_config<MultiInputTransformerWrapperConfig>(config, "MultiInputTransformerWrapper");
  options.attn_layers = attn_layers;
  const auto m = std::make_shared<MultiInputTransformerWrapper>(options);
  return {
      m, [m](Arguments& a) -> Tensors {
        no_method(a);
        a.bind({"x", "return_embeddings", "return_logits_and_embeddings", "return_intermediates", "mask", "return_mems",
                "return_attn", "mems", "mem_masks", "pos", "prepend_embeds", "prepend_mask", "sum_embeds"});
        Returns r;
        const Call call = wrapper_call(a, r);
        auto out = (*m)(a.named_tensors("x"), call);
        TransformerOutput all{.embeddings = out.embeddings,
                              .mems = out.mems,
                              .attn_z_loss = out.attn_z_loss,
                              .intermediates = out.intermediates};
        for (const auto& [name, logits] : out.logits) all.logits.push_back(logits);
        return flattened(all, r);
      }};
}

Subject xval(const Json& given) {
  Json config = given;
  const auto attn_layers = layers_of(config);
  auto options = read_config<XValTransformerWrapperConfig>(config, "XValTransformerWrapper");
  options.attn_layers = attn_layers;
  const auto m = std::make_shared<XValTransformerWrapper>(options);
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"x", "x_num", "return_embeddings", "return_intermediates", "return_mems", "mask", "return_attn",
                    "mems", "pos", "prepend_embeds"});
            Returns r;
            const Call call = wrapper_call(a, r);
            const auto out = (*m)(a.tensor("x"), a.tensor("x_num"), call);
            TransformerOutput all{.embeddings = out.embeddings, .mems = out.mems, .intermediates = out.intermediates};
            if (!call.return_embeddings) all.logits = {out.logits, out.numerical_pred};
            return flattened(all, r);
          }};
}

Subject xval_loss(const Json& given) {
  Json config = given;
  const Json net = extract(config, "net");
  drop(config, {"pad_value"});  // read by nobody in 2.0.4
  auto options = read_config<XValAutoregressiveWrapperConfig>(config, "XValAutoregressiveWrapper");
  options.net = build_nested<XValTransformerWrapper>(kPackage, net);
  const auto m = std::make_shared<XValAutoregressiveWrapper>(options);
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"x", "x_num", "return_loss_breakdown"});
            const bool parts = a.flag("return_loss_breakdown", false);
            Returns r;
            const Call call = wrapper_call(a, r);
            const auto loss = m->loss(a.tensor("x"), a.tensor("x_num"), call);
            if (!parts) return {loss.loss};
            return {loss.loss, loss.cross_entropy_loss, loss.numerical_mse_loss};
          }};
}

Subject neo_mlp(const Json& given) {
  Json config = given;
  const Json encoder = extract(config, "encoder_kwargs");
  auto options = read_config<NeoMLPConfig>(config, "NeoMLP");
  if (!encoder.is_null()) options.encoder_kwargs = layers_config(encoder, "NeoMLP.encoder_kwargs");
  const auto m = std::make_shared<NeoMLP>(options);
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"x", "return_embeds"});
            const auto o = m->run(a.tensor("x"));
            if (a.flag("return_embeds", false)) return {o.out, o.input_embed, o.hidden_embed, o.output_embed};
            return {o.out};
          }};
}

Subject dpo(const Json& given) {
  Json config = given;
  const Json model = extract(config, "model");
  Options o(config, "DPO");
  const auto m = std::make_shared<DPO>(DPOConfig{.policy_model = build_nested<TransformerWrapper>(kPackage, model),
                                                 .ref_model = build_nested<TransformerWrapper>(kPackage, model),
                                                 .beta = o.get<double>("beta", 0.1),
                                                 .pad_id = o.maybe("pad_id")});
  o.finish();
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"preferred_seq", "unpreferred_seq"});
            return {(*m)(a.tensor("preferred_seq"), a.tensor("unpreferred_seq"),
                         {.prompt_mask = a.tensor("prompt_mask"),
                          .preferred_seq_mask = a.tensor_or_none("preferred_seq_mask"),
                          .unpreferred_seq_mask = a.tensor_or_none("unpreferred_seq_mask")})};
          }};
}

// A filter of logits, and how it is called.
Factory filter(std::function<Tensor(const Tensor&, Arguments&)> f) {
  return [f](const Json& config) -> Subject {
    check(config.empty(), "filter: takes no options");
    return {nullptr, [f](Arguments& a) -> Tensors {
              a.bind({"logits"});
              return {f(a.tensor("logits"), a)};
            }};
  };
}

Subject nonautoregressive(const Json& given) {
  Json config = given;
  const Json net = extract(config, "net"), critic = extract(config, "token_critic");
  auto options = read_config<NonAutoregressiveWrapperConfig>(config, "NonAutoregressiveWrapper");
  options.net = build_nested<TransformerWrapper>(kPackage, net);
  if (!critic.is_null()) options.token_critic = build_nested<TransformerWrapper>(kPackage, critic);
  const auto m = std::make_shared<NonAutoregressiveWrapper>(options);
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"x", "only_train_generator", "only_train_critic", "generator_sample_temperature"});
            NonAutoregressiveWrapper::TrainOptions o{.only_train_generator = a.flag("only_train_generator", false),
                                                     .only_train_critic = a.flag("only_train_critic", false)};
            if (a.is_number("generator_sample_temperature"))
              o.generator_sample_temperature = a.number("generator_sample_temperature", 0);
            Returns r;
            o.call = wrapper_call(a, r);
            const auto losses = (*m)(a.tensor("x"), o);
            Tensors all{losses.loss};
            for (const Tensor& t : {losses.generator_loss, losses.critic_loss})
              if (t.defined()) all.push_back(t);
            return all;
          }};
}

}  // namespace

void add_xt(Table& t) {
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
  add("TransformerWrapper", transformer);
  add("ViTransformerWrapper", vit);
  add("XTransformer", x_transformer);
  add("AutoregressiveWrapper", autoregressive);
  add("XLAutoregressiveWrapper", loss_of<XLAutoregressiveWrapper, TransformerWrapper>("XLAutoregressiveWrapper"));
  add("ContinuousTransformerWrapper", continuous);
  add("ContinuousAutoregressiveWrapper",
      loss_of<ContinuousAutoregressiveWrapper, ContinuousTransformerWrapper>("ContinuousAutoregressiveWrapper"));
  add("MultiInputTransformerWrapper", multi_input);
  add("XValTransformerWrapper", xval);
  add("XValAutoregressiveWrapper", xval_loss);
  add("NonAutoregressiveWrapper", nonautoregressive);
  add("NeoMLP", neo_mlp);
  add("top_k", filter([](const Tensor& l, Arguments& a) {
        const int64_t k = a.integer("k", 0);
        return xt::top_k(l, a.number("frac_num_tokens", 0.1), k > 0 ? std::optional(k) : std::nullopt);
      }));
  add("top_p", filter([](const Tensor& l, Arguments& a) { return top_p(l, a.number("thres", 0.9)); }));
  add("min_p", filter([](const Tensor& l, Arguments& a) { return min_p(l, a.number("min_p", 0.1)); }));
  add("top_a", filter([](const Tensor& l, Arguments& a) {
        return top_a(l, a.number("min_p_pow", 2), a.number("min_p_ratio", 0.02));
      }));
  add("DPO", dpo);
}

}  // namespace weft::parity
