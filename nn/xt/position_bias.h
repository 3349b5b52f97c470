// Biases on attention scores that depend on positions alone.
#pragma once

#include <weft/nn/container.h>
#include <weft/nn/embedding.h>
#include <weft/nn/xt/options.h>

namespace weft::xt {

/// What is added to the scores of i queries (the last of j places) and j keys.
class PositionBias : public Module {
 public:
  /// [h, i, j], a view of i + j - 1 numbers a head: the matrix never exists.
  Tensor operator()(int64_t i, int64_t j, Device device = default_device()) const;
  /// [h, i, j] for queries at places of their own among j keys, int64 [i].
  Tensor of_queries(const Tensor& places, int64_t j) const;
  using Module::operator();

 protected:
  /// Values by distance, key - query: int64 [l] → [h, l].
  virtual Tensor by_distance(const Tensor& distance) const = 0;
};

struct RelativePositionBiasConfig {
  double scale = 1;
  bool causal = false;
  int64_t num_buckets = 32;
  int64_t max_distance = 128;
  int64_t heads = 8;
};

/// T5's: scale · weight[bucket(distance)], learned. arXiv:1910.10683
class RelativePositionBias : public PositionBias {
 public:
  explicit RelativePositionBias(const RelativePositionBiasConfig& config);
  std::string name() const override { return "RelativePositionBias"; }

 protected:
  Tensor by_distance(const Tensor& distance) const override;

 private:
  RelativePositionBiasConfig config_;
  Embedding relative_attention_bias_;
  Tensor buckets_;  // of the distances -max_distance ... max_distance
};

struct DynamicPositionBiasConfig {
  int64_t dim = 0;
  int64_t heads = 0;
  int64_t depth = 0;
  bool log_distance = false;
  bool norm = false;
};

/// A small network from a distance (query - key) to a number a head. arXiv:2108.00154; with log_distance it sees
/// sign(d) log(|d| + 1), arXiv:2111.09883. Works for any number of queries and keys, where the original needs as many
/// of each.
class DynamicPositionBias : public PositionBias {
 public:
  explicit DynamicPositionBias(const DynamicPositionBiasConfig& config);
  std::string name() const override { return "DynamicPositionBias"; }

 protected:
  Tensor by_distance(const Tensor& distance) const override;

 private:
  DynamicPositionBiasConfig config_;
  ModuleList mlp_;
};

/// -slope |distance| on the first heads, 0 on the others. Slopes fall geometrically from head to head unless given.
/// arXiv:2108.12409
class AlibiPositionalBias : public PositionBias {
 public:
  explicit AlibiPositionalBias(int64_t heads, std::optional<int64_t> total_heads = {},
                               const std::vector<double>& slopes = {});
  /// Of all heads: [total_heads], 0 at those without a bias. What a fused attention makes the bias from.
  Tensor slopes_of_heads() const;
  /// For tokens at positions of their own: [n], [b, n] or [b, h, n] → [b or 1, h, n, n].
  Tensor at(const Tensor& positions) const;
  std::string name() const override { return "AlibiPositionalBias"; }

  Tensor slopes;  // [heads, 1, 1]

 protected:
  Tensor by_distance(const Tensor& distance) const override;

 private:
  int64_t total_heads_;
};

}  // namespace weft::xt
