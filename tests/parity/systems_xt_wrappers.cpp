// x-transformers: the wrappers around the layers, and the filters of logits.
#include <weft/nn/xt/continuous.h>
#include <weft/nn/xt/dpo.h>
#include <weft/nn/xt/multi_input.h>
#include <weft/nn/xt/neo_mlp.h>
#include <weft/nn/xt/nonautoregressive_wrapper.h>
#include <weft/nn/xt/vit.h>
#include <weft/nn/xt/xl_autoregressive_wrapper.h>
#include <weft/nn/xt/xval.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/loss.h>
#include <weft/ops/shape.h>

#include "xt_arguments.h"

namespace weft::parity {
namespace {

using namespace weft::xt;

// --- wrappers

// A wrapper's options with the layers that it wraps.
template <class Config>
Config with_layers(Json config, const char* owner) {
  const auto attn_layers = layers_of(config);
  auto options = read_config<Config>(config, owner);
  options.attn_layers = attn_layers;
  return options;
}

Subject transformer(const Json& given) {
  Json config = given;
  const Json token_emb = extract(config, "token_emb"), to_logits = extract(config, "to_logits");
  auto options = with_layers<TransformerWrapperConfig>(config, "TransformerWrapper");
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
  const auto m =
      std::make_shared<ViTransformerWrapper>(with_layers<ViTransformerWrapperConfig>(given, "ViTransformerWrapper"));
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
  drop(config, {"emb_dim"});  // read by nobody in 2.0.4
  const auto m = std::make_shared<ContinuousTransformerWrapper>(
      with_layers<ContinuousTransformerWrapperConfig>(config, "ContinuousTransformerWrapper"));
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
  const auto m = std::make_shared<MultiInputTransformerWrapper>(
      with_layers<MultiInputTransformerWrapperConfig>(given, "MultiInputTransformerWrapper"));
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
  const auto m = std::make_shared<XValTransformerWrapper>(
      with_layers<XValTransformerWrapperConfig>(given, "XValTransformerWrapper"));
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

void add_xt_wrappers(Table& t) {
  const auto add = [&t](const char* name, Factory f) { t[std::string(kPackage) + "." + name] = std::move(f); };
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

void add_xt(Table& table) { add_xt_layers(table), add_xt_wrappers(table); }

}  // namespace weft::parity
