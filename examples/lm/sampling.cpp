#include <weft/autograd/autograd.h>
#include <weft/examples/lm/sampling.h>
#include <weft/ops/create.h>
#include <weft/ops/philox.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace weft::lm {

void validate(const SamplingConfig& config) {
  check(config.temperature >= 0 && std::isfinite(config.temperature),
        "--temperature must not be negative: ", config.temperature);
  check(config.top_k >= 0, "--top-k must not be negative: ", config.top_k);
  check(config.top_p > 0 && config.top_p <= 1, "--top-p lies above 0 and up to 1: ", config.top_p);
}

int64_t sample_token(std::span<const float> logits, const SamplingConfig& config, Generator& generator) {
  check(!logits.empty(), "sample_token: no logits");
  for (const float logit : logits) check(!std::isnan(logit), "sample_token: the model's output is NaN");
  const Generator::State at = generator.reserve(2);
  std::vector<int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto logit = [&](int64_t i) { return static_cast<double>(logits[static_cast<size_t>(i)]); };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return logit(a) > logit(b); });
  if (config.temperature == 0) return order[0];

  size_t candidates = order.size();
  if (config.top_k > 0) candidates = std::min(candidates, static_cast<size_t>(config.top_k));
  std::vector<double> weight(candidates);
  for (size_t i = 0; i < candidates; ++i)
    weight[i] = std::exp((logit(order[i]) - logit(order[0])) / config.temperature);
  double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  // The smallest set of likeliest tokens that reaches top_p, never empty.
  double within = 0;
  size_t kept = 0;
  while (kept < candidates && (kept == 0 || within < config.top_p * total)) within += weight[kept++];

  const double point = within * to_uniform(philox_word(at.seed, at.offset, 0), philox_word(at.seed, at.offset, 1));
  double below = 0;
  for (size_t i = 0; i < kept; ++i) {
    below += weight[i];
    if (point < below) return order[i];
  }
  return order[kept - 1];
}

std::vector<float> next_logits(const LanguageModel& model, std::span<const uint8_t> bytes) {
  const NoGrad no_grad;
  const std::vector<int64_t> ids(bytes.begin(), bytes.end());
  const Tensor tokens = tensor(ids, {1, static_cast<int64_t>(ids.size())}).to(model.parameters().at(0).device());
  return model(tokens).select(1, -1).to_vector<float>();
}

void generate(const LanguageModel& model, data::Bytes text, int64_t length, int64_t context,
              const SamplingConfig& config, Generator& generator, const std::function<void(uint8_t)>& emit) {
  if (text.empty()) text.push_back('\n');
  for (int64_t i = 0; i < length; ++i) {
    const auto seen = std::min<int64_t>(context, static_cast<int64_t>(text.size()));
    const std::vector<float> logits = next_logits(model, std::span(text).last(static_cast<size_t>(seen)));
    const auto byte = static_cast<uint8_t>(sample_token(logits, config, generator));
    text.push_back(byte);
    emit(byte);
  }
}

}  // namespace weft::lm
