#include <weft/autograd/autograd.h>
#include <weft/examples/lm/models.h>
#include <weft/nn/data/text.h>
#include <weft/nn/flash/flash_transformer.h>
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

struct Row {
  const char* name;
  std::shared_ptr<LanguageModel> (*make)(std::string_view options);
};

constexpr Row kModels[] = {
    {"flash", make_flash},
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
