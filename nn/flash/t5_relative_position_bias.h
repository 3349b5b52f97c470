// T5's relative position bias, for one head.
#pragma once

#include <weft/nn/config.h>
#include <weft/nn/embedding.h>
#include <weft/nn/module.h>

namespace weft::flash {

struct T5RelativePositionBiasConfig {
  double scale = 1;
  bool causal = false;
  int64_t num_buckets = 32;
  int64_t max_distance = 128;
};
inline Fields fields(T5RelativePositionBiasConfig& c) {
  return {
      {"scale", &c.scale}, {"causal", &c.causal}, {"num_buckets", &c.num_buckets}, {"max_distance", &c.max_distance}};
}

/// bias[i, j] = scale · weight[bucket(j - i)]. Near distances have a bucket each, farther ones share logarithmically
/// wider ones up to max_distance; without causal, half of the buckets are for keys ahead of the query.
/// Raffel et al., arXiv:1910.10683. Parameter relative_attention_bias.weight [num_buckets, 1], normal at first.
class T5RelativePositionBias : public Module {
 public:
  explicit T5RelativePositionBias(const T5RelativePositionBiasConfig& config);
  /// The bias for scores [..., i, j]: [i, j]; their values do not matter.
  Tensor forward(const Tensor& scores) const override;
  /// The bias of i queries and j keys.
  Tensor bias(int64_t i, int64_t j) const;
  /// The buckets of the distances from 1 - i to j - 1: int64 [i + j - 1]. Layers that differ in weights alone share it.
  Tensor buckets(int64_t i, int64_t j) const;
  /// The bias of n queries and as many keys, from buckets(m, m) for an m of at least n.
  Tensor bias(const Tensor& buckets, int64_t n) const;
  /// The bucket of a key at this distance (positive: after the query).
  int64_t bucket(int64_t distance) const;
  std::string name() const override { return "T5RelativePositionBias"; }

 private:
  Tensor of_distances(const Tensor& buckets, int64_t i, int64_t j) const;
  T5RelativePositionBiasConfig config_;
  Embedding relative_attention_bias_;
};

}  // namespace weft::flash
