#include <weft/nn/flash/scaled_sinu_embedding.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft::flash {
namespace {

// float32, as the original keeps them: a model of it that is converted to float64 keeps the rounded values.
Tensor frequencies(int64_t dim) {
  std::vector<float> f;
  for (int64_t k = 0; k < dim; k += 2)
    f.push_back(1 / std::pow(10000.0f, static_cast<float>(k) / static_cast<float>(dim)));
  return tensor(f);
}

}  // namespace

ScaledSinuEmbedding::ScaledSinuEmbedding(const ScaledSinuEmbeddingConfig& config) : config_(config) {
  check(config.dim > 0, "ScaledSinuEmbedding: dim must be positive, got ", config.dim);
  scale = register_parameter("scale", ones({1}));
  inv_freq = register_buffer("inv_freq", frequencies(config.dim));
}

Tensor ScaledSinuEmbedding::forward(const Tensor& x) const {
  check(x.dim() >= 2, "ScaledSinuEmbedding: expected [batch, length, ...], got ", x.shape());
  // An angle reaches the length of the text; a half-precision frequency would be off by whole turns there.
  const Tensor f = is_half(inv_freq.dtype()) ? frequencies(config_.dim).to(x.device()) : inv_freq;
  const Tensor t = arange(0, static_cast<double>(x.size(1)), 1, {.dtype = f.dtype(), .device = x.device()});
  const Tensor angles = unsqueeze(t, 1) * f;  // [n, dim / 2]
  return cat({sin(angles), cos(angles)}, -1).to(scale.dtype()) * scale;
}

}  // namespace weft::flash
