// flash-pytorch, and of rotary-embedding-torch what it uses.
#include <weft/nn/flash/attention_fn.h>
#include <weft/nn/flash/autoregressive_wrapper.h>
#include <weft/nn/flash/flash_transformer.h>
#include <weft/nn/flash/gau.h>
#include <weft/nn/flash/scale_norm.h>

#include "systems.h"

namespace weft::parity {
namespace {

using namespace weft::flash;

constexpr const char* kPackage = "flash_pytorch";

template <class Config>
Config read_config(const Json& json, const char* owner) {
  return config_from_json<Config>(json.dump(), owner);
}

Json with_class_names(Json config) {
  if (config.contains("norm_klass")) config["norm_klass"] = class_name(config["norm_klass"]);
  return config;
}

void no_method(const Arguments& a) {
  check(a.method().empty() || a.method() == "forward", "call: no method called ", a.method());
}

// A module that is called with one tensor.
template <class M>
Subject of_one(std::shared_ptr<M> m, const char* argument = "x") {
  return {m, [m, argument](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({argument});
            return {m->forward(a.tensor(argument))};
          }};
}

// A module that is called with x and an optional mask.
template <class M>
Subject masked(std::shared_ptr<M> m) {
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"x", "mask"});
            return {(*m)(a.tensor("x"), a.tensor_or_none("mask"))};
          }};
}

template <class M, class Config>
Factory part(const char* owner) {
  return [owner](const Json& config) { return of_one(std::make_shared<M>(read_config<Config>(config, owner))); };
}

template <class M>
Factory plain(const char* owner) {
  return [owner](const Json& config) {
    check(config.empty(), owner, ": takes no options");
    return of_one(std::make_shared<M>());
  };
}

Subject offset_scale(const Json& config) {
  const auto m = std::make_shared<OffsetScale>(read_config<OffsetScaleConfig>(config, "OffsetScale"));
  return {m, [m](Arguments& a) {
            no_method(a);
            a.bind({"x"});
            return m->heads(a.tensor("x"));
          }};
}

Subject rotary(const Json& config) {
  const auto m = std::make_shared<RotaryEmbedding>(read_config<RotaryEmbeddingConfig>(config, "RotaryEmbedding"));
  return {m, [m](Arguments& a) -> Tensors {
            if (a.method() == "rotate_queries_or_keys") {
              a.bind({"t", "seq_dim", "offset"});
              return {m->rotate_queries_or_keys(a.tensor("t"), a.integer("seq_dim", -2), a.integer("offset", 0))};
            }
            no_method(a);
            a.bind({"t", "seq_len", "offset"});
            const Tensor t = a.tensor("t");
            a.integer("seq_len", 0), a.integer("offset", 0);  // only say where the original may look in its cache
            return {m->forward(t)};
          }};
}

Subject rotate(const Json& config) {
  check(config.empty(), "apply_rotary_emb: takes no options");
  return {
      nullptr, [](Arguments& a) -> Tensors {
        a.bind({"freqs", "t", "start_index", "scale"});
        return {apply_rotary_emb(a.tensor("freqs"), a.tensor("t"), a.integer("start_index", 0), a.number("scale", 1))};
      }};
}

Subject gau(const Json& config) {
  const auto m = std::make_shared<GAU>(read_config<GAUConfig>(with_class_names(config), "GAU"));
  return {m, [m](Arguments& a) -> Tensors {
            no_method(a);
            a.bind({"x", "rel_pos_bias", "mask"});
            return {(*m)(a.tensor("x"), a.tensor_or_none("mask"), a.tensor_or_none("rel_pos_bias"))};
          }};
}

Subject flash_layer(const Json& given) {
  Json config = with_class_names(given);
  const Json rotary_spec = extract(config, "rotary_pos_emb");
  auto options = read_config<FLASHConfig>(config, "FLASH");
  if (!rotary_spec.is_null())
    options.rotary_pos_emb = build_nested<RotaryEmbedding>("rotary_embedding_torch", rotary_spec);
  return masked(std::make_shared<FLASH>(options));
}

Subject transformer(const Json& config) {
  return masked(std::make_shared<FLASHTransformer>(read_config<FLASHTransformerConfig>(config, "FLASHTransformer")));
}

Tensors generate(AutoregressiveWrapper& m, Arguments& a) {
  a.bind({"start_tokens", "seq_len", "eos_token", "temperature", "filter_thres"});
  GenerateOptions options{.temperature = a.number("temperature", 1), .filter_thres = a.number("filter_thres", 0.9)};
  if (const int64_t eos = a.integer("eos_token", -1); eos >= 0) options.eos_token = eos;
  return {m.generate(a.tensor("start_tokens"), a.integer("seq_len", 0), options)};
}

Subject wrapper(const Json& given) {
  Json config = given;
  const Json net = extract(config, "net"), pad_value = extract(config, "pad_value");
  check(config.empty(), "AutoregressiveWrapper: no option called ", config.empty() ? "" : config.begin().key(),
        "; it has net, pad_value");
  check(pad_value.is_null() || pad_value.is_number_integer(),
        "AutoregressiveWrapper: option pad_value must be an integer");
  const auto m = std::make_shared<AutoregressiveWrapper>(build_nested<LanguageModel>(kPackage, net),
                                                         pad_value.is_null() ? 0 : pad_value.get<int64_t>());
  return {m, [m](Arguments& a) -> Tensors {
            if (a.method() == "generate") return generate(*m, a);
            no_method(a);
            a.bind({"x"});
            return {(*m)(a.tensor("x"), a.tensor_or_none("mask"))};
          }};
}

Subject filter(const Json& config) {
  check(config.empty(), "top_k: takes no options");
  return {nullptr, [](Arguments& a) -> Tensors {
            a.bind({"logits", "thres"});
            return {top_k(a.tensor("logits"), a.number("thres", 0.9))};
          }};
}

}  // namespace

void add_flash(Table& t) {
  t["flash_pytorch.ScaleNorm"] = part<ScaleNorm, ScaleNormConfig>("ScaleNorm");
  t["flash_pytorch.ScaledSinuEmbedding"] = part<ScaledSinuEmbedding, ScaledSinuEmbeddingConfig>("ScaledSinuEmbedding");
  t["flash_pytorch.T5RelativePositionBias"] =
      part<T5RelativePositionBias, T5RelativePositionBiasConfig>("T5RelativePositionBias");
  t["flash_pytorch.OffsetScale"] = offset_scale;
  t["flash_pytorch.ReLUSquared"] = plain<ReLUSquared>("ReLUSquared");
  t["flash_pytorch.LaplacianAttnFn"] = plain<LaplacianAttnFn>("LaplacianAttnFn");
  t["flash_pytorch.GAU"] = gau;
  t["flash_pytorch.FLASH"] = flash_layer;
  t["flash_pytorch.FLASHTransformer"] = transformer;
  t["flash_pytorch.AutoregressiveWrapper"] = wrapper;
  t["flash_pytorch.top_k"] = filter;
  t["flash_pytorch.RotaryEmbedding"] = t["rotary_embedding_torch.RotaryEmbedding"] = rotary;
  t["rotary_embedding_torch.apply_rotary_emb"] = rotate;
}

}  // namespace weft::parity
