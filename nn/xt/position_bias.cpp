#include <weft/nn/activation.h>
#include <weft/nn/linear.h>
#include <weft/nn/norm.h>
#include <weft/nn/relative_position.h>
#include <weft/nn/xt/norm.h>
#include <weft/nn/xt/places.h>
#include <weft/nn/xt/position_bias.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft::xt {
namespace {

// Geometric: 2^(-8/n), its square, ... for n a power of two; else those of the next lower power, and every second one
// of twice as many.
std::vector<double> default_slopes(int64_t heads) {
  const auto geometric = [](int64_t n) {
    std::vector<double> s;
    const double ratio = std::exp2(-std::exp2(-(std::log2(static_cast<double>(n)) - 3)));
    for (int64_t i = 0; i < n; ++i) s.push_back(ratio * std::pow(ratio, static_cast<double>(i)));
    return s;
  };
  int64_t power = 1;
  while (2 * power <= heads) power *= 2;
  std::vector<double> s = geometric(power);
  const std::vector<double> finer = geometric(2 * power);
  for (size_t i = 0; static_cast<int64_t>(s.size()) < heads; i += 2) s.push_back(finer[i]);
  return s;
}

// [h, ...] → [total, ...], zeros for the heads that are left.
Tensor pad_heads(const Tensor& x, int64_t dim_from_right, int64_t total) {
  const int64_t missing = total - x.size(-dim_from_right);
  if (missing == 0) return x;
  std::vector<int64_t> amounts(static_cast<size_t>(2 * dim_from_right), 0);
  amounts.back() = missing;
  return pad(x, amounts);
}

}  // namespace

Tensor PositionBias::operator()(int64_t i, int64_t j, Device device) const {
  return toeplitz(by_distance(places(1 - j, i, device)), i, j);
}

Tensor PositionBias::of_queries(const Tensor& queries, int64_t j) const {
  const Tensor distance = places(0, j, queries.device()) - unsqueeze(queries, 1);  // [i, j]
  return unflatten(by_distance(flatten(distance)), 1, distance.shape());
}

RelativePositionBias::RelativePositionBias(const RelativePositionBiasConfig& c)
    : config_(c), relative_attention_bias_(c.num_buckets, c.heads) {
  check_t5_buckets("RelativePositionBias", c.causal, c.num_buckets, c.max_distance);
  register_module("relative_attention_bias", relative_attention_bias_);
  std::vector<int64_t> buckets;
  for (int64_t distance = -c.max_distance; distance <= c.max_distance; ++distance)
    buckets.push_back(t5_bucket(distance, c.causal, c.num_buckets, c.max_distance));
  buckets_ = register_buffer("buckets", tensor(buckets), false);
}

Tensor RelativePositionBias::by_distance(const Tensor& distance) const {
  const int64_t far = config_.max_distance;  // from there on all are in one bucket
  const Tensor ids = index_select(buckets_, 0, clamp(distance, -far, far) + far);
  return transpose(relative_attention_bias_(ids), 0, 1) * config_.scale;
}

DynamicPositionBias::DynamicPositionBias(const DynamicPositionBiasConfig& c) : config_(c) {
  check(c.dim > 0 && c.heads > 0 && c.depth > 0, "DynamicPositionBias: dim, heads and depth must be positive, got ",
        c.dim, ", ", c.heads, " and ", c.depth);
  for (int64_t layer = 0; layer < c.depth; ++layer) {
    const auto linear = std::make_shared<Linear>(layer == 0 ? 1 : c.dim, c.dim);
    const auto silu = std::make_shared<SiLU>();
    if (!c.norm)
      mlp_.push_back(std::make_shared<Sequential>(linear, silu));
    else if (layer == 0)
      mlp_.push_back(std::make_shared<Sequential>(linear, std::make_shared<LayerNorm>(c.dim), silu));
    else
      mlp_.push_back(std::make_shared<Sequential>(linear, std::make_shared<weft::LayerNorm>(c.dim), silu));
  }
  mlp_.push_back(std::make_shared<Linear>(c.dim, c.heads));
  register_module("mlp", mlp_);
}

Tensor DynamicPositionBias::by_distance(const Tensor& distance) const {
  const Tensor weight = mlp_.at<Linear>(mlp_.size() - 1).weight;
  Tensor x = neg(distance).to(is_half(weight.dtype()) ? float32 : weight.dtype());
  if (config_.log_distance) x = sign(x) * log(abs(x) + 1);
  x = unsqueeze(x, -1).to(weight.dtype());
  for (int64_t layer = 0; layer < mlp_.size(); ++layer) x = mlp_[layer].forward(x);
  return transpose(x, 0, 1);
}

AlibiPositionalBias::AlibiPositionalBias(int64_t heads, std::optional<int64_t> total_heads,
                                         const std::vector<double>& given)
    : total_heads_(total_heads.value_or(heads)) {
  check(heads > 0 && heads <= total_heads_, "AlibiPositionalBias: ", heads, " of ", total_heads_, " heads");
  const std::vector<double> values = given.empty() ? default_slopes(heads) : given;
  check(static_cast<int64_t>(values.size()) == heads, "AlibiPositionalBias: ", values.size(), " slopes for ", heads,
        " heads");
  slopes = register_buffer("slopes", tensor(values, {heads, 1, 1}, {.dtype = float32}), false);
}

Tensor AlibiPositionalBias::by_distance(const Tensor& distance) const {
  const Tensor length = abs(distance).to(is_half(slopes.dtype()) ? float32 : slopes.dtype());
  return pad_heads(neg(length) * squeeze(slopes, -1), 2, total_heads_);
}

Tensor AlibiPositionalBias::slopes_of_heads() const { return flatten(pad_heads(slopes, 3, total_heads_)); }

Tensor AlibiPositionalBias::at(const Tensor& positions) const {
  check(positions.dim() >= 1 && positions.dim() <= 3,
        "AlibiPositionalBias: expected positions of 1 to 3 dimensions, got ", positions.shape());
  Tensor p = positions.to(is_half(slopes.dtype()) ? float32 : slopes.dtype());
  if (p.dim() == 1) p = unsqueeze(p, 0);
  if (p.dim() == 2) p = unsqueeze(p, 1);                             // [b, 1 or h, n]
  const Tensor distance = abs(unsqueeze(p, -2) - unsqueeze(p, -1));  // [b, 1 or h, n, n]
  return pad_heads(neg(distance) * slopes, 3, total_heads_);
}

}  // namespace weft::xt
