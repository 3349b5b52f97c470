#include <weft/autograd/autograd.h>
#include <weft/examples/lm/models.h>
#include <weft/nn/data/text.h>
#include <weft/nn/flash/flash_transformer.h>
#include <weft/nn/xt/transformer_wrapper.h>
#include <weft/ops/elementwise.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace weft::lm {
namespace {

constexpr const char* kFlashOptions = "--model-options of flash";
constexpr const char* kGPTOptions = "--model-options of gpt";

// The options of a model, but for the two that a model of the next byte cannot choose.
template <class Config>
Config read_options(std::string_view options, const std::string& owner) {
  auto config = config_from_json<Config>(options, owner);
  const auto given = nlohmann::json::parse(options);
  for (const char* fixed : {"num_tokens", "causal"})
    check(!given.contains(fixed), owner, ": ", fixed, " cannot be set: the model is causal, over the ",
          data::kByteTokens, " bytes");
  return config;
}

std::shared_ptr<LanguageModel> make_flash(std::string_view options) {
  auto config = read_options<flash::FLASHTransformerConfig>(options, kFlashOptions);
  if (config.dim == 0) config.dim = 512;
  if (config.depth == 0) config.depth = 8;
  config.num_tokens = data::kByteTokens;
  config.causal = true;
  return std::make_shared<flash::FLASHTransformer>(config);
}

// x-transformers' decoder with what recent language models agree on: rotary positions, RMS norms, gated feed-forwards
// without biases. Its options are those of the layers and of the wrapper around them.
struct GPTConfig {
  xt::AttentionLayersConfig layers{.dim = 512,
                                   .depth = 8,
                                   .use_rmsnorm = true,
                                   .rotary_pos_emb = true,
                                   .ff_glu = true,
                                   .ff_swish = true,
                                   .ff_no_bias = true};
  xt::TransformerWrapperConfig wrapper;
};

Fields fields(GPTConfig& c) {
  Fields all = xt::fields(c.layers);
  for (const Field& field : xt::fields(c.wrapper)) all.push_back(field);
  return all;
}

// Options for models that get more than bytes, or give something else than one set of logits a byte.
void check_predicts_each_byte(const GPTConfig& c) {
  constexpr const char *kLogits = "a byte needs one set of 256 logits", *kInput = "the model is given bytes alone";
  const auto& layers = c.layers;
  const auto& wrapper = c.wrapper;
  const bool crosses = std::count(layers.custom_layers.begin(), layers.custom_layers.end(), "c") > 0;
  const struct {
    const char* option;
    bool given;
    const char* reason;
  } refused[] = {
      {"use_cls_token", wrapper.use_cls_token, kLogits},
      {"average_pool_embed", wrapper.average_pool_embed, kLogits},
      {"num_output_heads", wrapper.num_output_heads != 1, kLogits},
      {"return_only_embed", wrapper.return_only_embed, kLogits},
      {"logits_dim", wrapper.logits_dim.value_or(data::kByteTokens) != data::kByteTokens, kLogits},
      {"embed_num_tokens", !wrapper.embed_num_tokens.empty(), kInput},
      {"cross_attend", layers.cross_attend, kInput},
      {"custom_layers with a c", crosses, kInput},
      {"use_adaptive_layernorm", layers.use_adaptive_layernorm, kInput},
      {"use_adaptive_rmsnorm", layers.use_adaptive_rmsnorm, kInput},
      {"use_adaptive_layerscale", layers.use_adaptive_layerscale, kInput},
      {"recycling", wrapper.recycling, "a trained model would have to be told how often"},
  };
  for (const auto& row : refused)
    check(!row.given, kGPTOptions, ": ", row.option, " cannot be used here: ", row.reason);
}

std::shared_ptr<LanguageModel> make_gpt(std::string_view options) {
  auto config = read_options<GPTConfig>(options, kGPTOptions);
  check_predicts_each_byte(config);
  config.wrapper.num_tokens = data::kByteTokens;
  config.wrapper.attn_layers = std::make_shared<xt::Decoder>(config.layers);
  return std::make_shared<xt::TransformerWrapper>(config.wrapper);
}

struct Row {
  const char* name;
  std::shared_ptr<LanguageModel> (*make)(std::string_view options);
};

constexpr Row kModels[] = {
    {"flash", make_flash},
    {"gpt", make_gpt},
};

}  // namespace

std::shared_ptr<LanguageModel> make_model(std::string_view name, std::string_view options_json) {
  std::string known;
  for (const Row& row : kModels) {
    if (name == row.name) return row.make(options_json);
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  fail("--model is one of ", known, ", not ", name);
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const Row& row : kModels) names.emplace_back(row.name);
  return names;
}

void scale_initial_weights(Module& model, double embedding, double bias) {
  const NoGrad no_grad;
  for (auto& [name, parameter] : model.named_parameters()) {
    const bool is_bias = name.find("relative_attention_bias") != std::string::npos;
    const bool is_embedding = name.find("_emb.") != std::string::npos;
    const double factor = is_bias ? bias : is_embedding ? embedding : 1;
    if (factor != 1) Tensor(parameter).copy_(mul(parameter, factor));
  }
}

}  // namespace weft::lm
