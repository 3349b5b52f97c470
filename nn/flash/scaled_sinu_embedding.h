// Sinusoids of the position, with one learned gain.
#pragma once

#include <weft/nn/config.h>
#include <weft/nn/module.h>

namespace weft::flash {

struct ScaledSinuEmbeddingConfig {
  int64_t dim = 0;
};
inline Fields fields(ScaledSinuEmbeddingConfig& c) { return {{"dim", &c.dim}}; }

/// pos[i] = scale · [sin(i·f), cos(i·f)], f[k] = 10000^(-2k/dim): for x [b, n, ...] a tensor [n, dim], to be added to
/// it (dim + 1 columns for an odd dim). x gives the length only. Parameter scale [1]; buffer inv_freq.
class ScaledSinuEmbedding : public Module {
 public:
  explicit ScaledSinuEmbedding(const ScaledSinuEmbeddingConfig& config);
  Tensor forward(const Tensor& x) const override;
  std::string name() const override { return "ScaledSinuEmbedding"; }

  Tensor scale, inv_freq;

 private:
  ScaledSinuEmbeddingConfig config_;
};

}  // namespace weft::flash
