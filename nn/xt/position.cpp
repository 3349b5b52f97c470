#include <weft/nn/xt/places.h>
#include <weft/nn/xt/position.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/norm.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft::xt {
namespace {

// float32, as the original keeps them: a model of it that is converted to float64 keeps the rounded values.
Tensor frequencies(int64_t half_dim, double theta) {
  std::vector<float> f;
  for (int64_t k = 0; k < half_dim; ++k)
    f.push_back(std::pow(static_cast<float>(theta), -(static_cast<float>(k) / static_cast<float>(half_dim))));
  return tensor(f);
}

}  // namespace

AbsolutePositionalEmbedding::AbsolutePositionalEmbedding(int64_t dim, int64_t max_seq_len, bool l2norm_embed)
    : emb(max_seq_len, dim),
      scale_(l2norm_embed ? 1 : 1 / std::sqrt(static_cast<double>(dim))),
      l2norm_embed_(l2norm_embed) {
  register_module("emb", emb);
}

void AbsolutePositionalEmbedding::check_length(int64_t n) const {
  check(n <= emb.weight.size(0), "AbsolutePositionalEmbedding: ", n, " tokens are more than max_seq_len ",
        emb.weight.size(0));
}

Tensor AbsolutePositionalEmbedding::forward(const Tensor& positions) const {
  const Tensor rows = emb(clamp_min(positions, 0)) * scale_;
  return l2norm_embed_ ? normalize(rows) : rows;
}

ScaledSinusoidalEmbedding::ScaledSinusoidalEmbedding(int64_t dim, double theta) : half_dim_(dim / 2), theta_(theta) {
  check(dim > 0 && dim % 2 == 0, "ScaledSinusoidalEmbedding: dim must be positive and even, got ", dim);
  scale = register_parameter("scale", full({1}, 1 / std::sqrt(static_cast<double>(dim))));
  inv_freq = register_buffer("inv_freq", frequencies(half_dim_, theta), false);
}

Tensor ScaledSinusoidalEmbedding::forward(const Tensor& positions) const {
  // An angle reaches the length of the text; a half-precision frequency would be off by whole turns there.
  const Tensor f = is_half(inv_freq.dtype()) ? pow(Scalar(theta_), places(0, half_dim_, inv_freq.device()).to(float32) *
                                                                       (-1 / static_cast<double>(half_dim_)))
                                             : inv_freq;
  const Tensor angles = unsqueeze(positions.to(f.dtype()), -1) * f;  // [..., dim / 2]
  return cat({sin(angles), cos(angles)}, -1).to(scale.dtype()) * scale;
}

}  // namespace weft::xt
