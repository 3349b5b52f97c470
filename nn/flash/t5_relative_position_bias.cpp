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

Tensor T5RelativePositionBias::buckets(int64_t i, int64_t j) const {
  std::vector<int64_t> all;
  for (int64_t distance = 1 - i; distance < j; ++distance) all.push_back(bucket(distance));
  return tensor(all).to(relative_attention_bias_.weight.device());
}

// buckets: one a distance, from 1 - i (last query, first key) to j - 1.
Tensor T5RelativePositionBias::of_distances(const Tensor& buckets, int64_t i, int64_t j) const {
  return toeplitz(flatten(relative_attention_bias_(buckets)) * config_.scale, i, j);
}

Tensor T5RelativePositionBias::bias(int64_t i, int64_t j) const {
  const Tensor& weight = relative_attention_bias_.weight;
  if (i == 0 || j == 0) return zeros({i, j}, {.dtype = weight.dtype(), .device = weight.device()});
  return of_distances(buckets(i, j), i, j);
}

Tensor T5RelativePositionBias::bias(const Tensor& buckets, int64_t n) const {
  const int64_t m = (buckets.size(0) + 1) / 2;
  check(n > 0 && n <= m, "T5RelativePositionBias: buckets of ", m, " places for ", n);
  return of_distances(narrow(buckets, 0, m - n, 2 * n - 1), n, n);
}

Tensor T5RelativePositionBias::forward(const Tensor& scores) const {
  check(scores.dim() >= 2, "T5RelativePositionBias: expected scores [..., queries, keys], got ", scores.shape());
  return bias(scores.size(-2), scores.size(-1));
}

}  // namespace weft::flash
