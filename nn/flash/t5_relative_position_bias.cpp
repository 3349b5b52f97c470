#include <weft/autograd/autograd.h>
#include <weft/nn/flash/t5_relative_position_bias.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

#include <algorithm>
#include <cmath>

namespace weft::flash {
namespace {

// y[q, k] = values[k - q + i - 1]: one value a diagonal. values: [i + j - 1] → [i, j]
Tensor toeplitz(const Tensor& values, int64_t i, int64_t j) {
  const Tensor y = flip(unfold(values.detach(), 0, j, 1), {0});
  return record("toeplitz", y, {values}, [i, j](const Tensor& dy) -> Grads {
    // Read with rows one shorter than they are, row r of a matrix moves r places to the right: diagonals become
    // columns.
    const Tensor rows = pad(flip(dy, {0}), {0, i});  // [i, i + j]
    return {sum(flatten(rows).slice(0, 0, i * (i + j - 1)).reshape({i, i + j - 1}), 0)};
  });
}

}  // namespace

T5RelativePositionBias::T5RelativePositionBias(const T5RelativePositionBiasConfig& config)
    : config_(config), relative_attention_bias_(config.num_buckets, 1) {
  // Each side needs at least one near and one far bucket.
  check(config.num_buckets >= (config.causal ? 2 : 4), "T5RelativePositionBias: num_buckets must be at least ",
        config.causal ? 2 : 4, ", got ", config.num_buckets);
  const int64_t near = config.num_buckets / (config.causal ? 2 : 4);
  check(config.max_distance > near, "T5RelativePositionBias: max_distance must be above ", near,
        " (half of the buckets of a side), got ", config.max_distance);
  register_module("relative_attention_bias", relative_attention_bias_);
}

int64_t T5RelativePositionBias::bucket(int64_t distance) const {
  int64_t buckets = config_.num_buckets, first = 0;
  int64_t behind = -distance;
  if (config_.causal) {
    behind = std::max<int64_t>(behind, 0);
  } else {
    buckets /= 2;
    if (behind < 0) first = buckets, behind = -behind;
  }
  const int64_t near = buckets / 2;
  if (behind < near) return first + behind;
  // In float32 and in this order, as the original: a bucket starts where the quotient passes an integer.
  const float share =
      std::log(static_cast<float>(behind) / static_cast<float>(near)) /
      static_cast<float>(std::log(static_cast<double>(config_.max_distance) / static_cast<double>(near)));
  return first + std::min(near + static_cast<int64_t>(share * static_cast<float>(buckets - near)), buckets - 1);
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
