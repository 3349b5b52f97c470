// x-transformers: what its classes are built from and called with.
//
// What a case's outputs are, in order: the output itself (several output heads: each), then what the call's flags add:
// return_logits_and_embeddings: the embeddings; return_mems: each layer's; return_attn: each layer's weights.
// Where the original returns an object beside the output (return_intermediates, return_attn_z_loss,
// return_logit_entropies, return_hiddens), what is in it is no output, memories and weights included.
#pragma once

#include <weft/nn/xt/x_transformer.h>

#include <algorithm>

#include "systems.h"

namespace weft::parity {

inline constexpr const char* kPackage = "x_transformers";

// 1 for True, 2 for 2.0; anything else stays.
void as_integer(Json& value);

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
void drop(Json& config, std::initializer_list<const char*> names, const std::string& prefix = "");

xt::AttentionConfig attention_config(Json json);
xt::AttentionLayersConfig layers_config(Json json, const char* owner);
xt::XTransformerConfig x_transformer_config(Json json);
// From the config's "attn_layers".
std::shared_ptr<xt::AttentionLayers> layers_of(Json& config);

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

void no_method(const Arguments& a);
// An argument that is a tensor or a number for all.
Tensor tensor_or_number(Arguments& a, const char* name);
// Rotary angles given as the original's pair: the angles, each twice, and a scale (likewise, or a number that is 1).
std::optional<xt::Rotation> rotation(Arguments& a, const char* name);
// The call of AttentionLayers and of what is around it. Each reads the names that its signature has.
xt::Call layers_call(Arguments& a);

struct Returns {
  bool logits_and_embeddings, mems, attn;
};
xt::Call wrapper_call(Arguments& a, Returns& r);
Tensors flattened(const xt::TransformerOutput& out, const Returns& r);
void append(Tensors& to, const Tensors& more);

// The two halves of add_xt.
void add_xt_layers(Table& table);
void add_xt_wrappers(Table& table);

}  // namespace weft::parity
