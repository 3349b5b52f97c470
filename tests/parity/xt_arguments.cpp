#include "xt_arguments.h"

#include <weft/ops/create.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft::parity {

using namespace weft::xt;

void as_integer(Json& value) {
  if (value.is_boolean()) value = value.get<bool>() ? 1 : 0;
  if (value.is_number_float() && value.get<double>() == std::trunc(value.get<double>())) value = value.get<int64_t>();
}

void drop(Json& config, std::initializer_list<const char*> names, const std::string& prefix) {
  for (const char* name : names) extract(config, (prefix + name).c_str());
}

namespace {

// The options of attention that are no values: a module, a function, and what is for PyTorch alone.
HybridModuleFn extract_functions(Json& config, const std::string& prefix) {
  drop(config, {"onnxable", "attend_sdp_kwargs"}, prefix);
  const std::string custom = prefix + "custom_attn_fn";
  check(extract(config, custom.c_str()).is_null(), custom, " is a function, which a case cannot hold");
  const Json spec = extract(config, (prefix + "hybrid_module").c_str());
  if (spec.is_null()) return nullptr;
  return [spec] { return build_nested_module(kPackage, spec); };
}

}  // namespace

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

void no_method(const Arguments& a) {
  check(a.method().empty() || a.method() == "forward", "call: no method called ", a.method());
}

Tensor tensor_or_number(Arguments& a, const char* name) {
  if (a.is_number(name)) return scalar(a.integer(name, 0), {.dtype = int64});
  return a.tensor_or_none(name);
}

std::optional<Rotation> rotation(Arguments& a, const char* name) {
  const Tensors pair = a.tensors(name);
  if (pair.empty()) return std::nullopt;
  const auto every_second = [](const Tensor& t) { return t.defined() ? t.unflatten(-1, {-1, 2}).select(-1, 0) : t; };
  check(pair.size() == 2, "call: argument ", name, " must be a pair");
  return Rotation{every_second(pair[0]), every_second(pair[1])};
}

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

}  // namespace weft::parity
