#include <weft/nn/flash/t5_relative_position_bias.h>
#include <weft/nn/relative_position.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/shape.h>

namespace weft::flash {
T5RelativePositionBias::T5RelativePositionBias(const T5RelativePositionBiasConfig& config)
    : config_(config), relative_attention_bias_(config.num_buckets, 1) {
  check_t5_buckets("T5RelativePositionBias", config.causal, config.num_buckets, config.max_distance);
  register_module("relative_attention_bias", relative_attention_bias_);
}

int64_t T5RelativePositionBias::bucket(int64_t distance) const {
  return t5_bucket(distance, config_.causal, config_.num_buckets, config_.max_distance);
}

Tensor T5RelativePositionBias::bias(int64_t i, int64_t j) const {
  if (i == 0 || j == 0)
    return zeros(
        {i, j}, {.dtype = relative_attention_bias_.weight.dtype(), .device = relative_attention_bias_.weight.device()});
  // One value a distance, from 1 - i (last query, first key) to j - 1.
  std::vector<int64_t> buckets;
  for (int64_t distance = 1 - i; distance < j; ++distance) buckets.push_back(bucket(distance));
  const Tensor ids = tensor(buckets).to(relative_attention_bias_.weight.device());
  return toeplitz(flatten(relative_attention_bias_(ids)) * config_.scale, i, j);
}

Tensor T5RelativePositionBias::forward(const Tensor& scores) const {
  check(scores.dim() >= 2, "T5RelativePositionBias: expected scores [..., queries, keys], got ", scores.shape());
  return bias(scores.size(-2), scores.size(-1));
}

}  // namespace weft::flash
