#include <weft/autograd/autograd.h>
#include <weft/examples/lm/models.h>
#include <weft/nn/data/text.h>
#include <weft/nn/flash/flash_transformer.h>
#include <weft/nn/xt/transformer_wrapper.h>
#include <weft/ops/elementwise.h>

namespace weft::lm {
namespace {

std::shared_ptr<LanguageModel> make_flash(std::string_view options) {
  auto config = config_from_json<flash::FLASHTransformerConfig>(options, "--model-options of flash");
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

std::shared_ptr<LanguageModel> make_gpt(std::string_view options) {
  auto config = config_from_json<GPTConfig>(options, "--model-options of gpt");
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
