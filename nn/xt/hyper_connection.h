// HyperConnection: several residual streams, read and written through learned, input-dependent mixtures.
#pragma once

#include <weft/nn/norm.h>
#include <weft/nn/xt/residual.h>

namespace weft::xt {

struct HyperConnectionConfig {
  int64_t dim = 0;
  int64_t layer_index = 0;  ///< at first the sublayer reads stream layer_index modulo their number
  int64_t num_residual_streams = 0;
  int64_t num_input_views = 1;  ///< 3: queries, keys and values read a mixture each
  bool tanh = true;
};

/// Streams h [b, n, s, d], kept with streams and batch as one dimension, (b s) n d:
///
///   input = Σₛ α[s, v] h[s]          the first columns of α, one a view
///   h[t]  ← Σₛ α[s, views + t] h[s] + β[t] · sublayer(input)
///
/// where α and β are learned numbers plus small tanh(norm(h) W). arXiv:2409.19606, algorithm 2 of appendix J
class HyperConnection : public ResidualFn {
 public:
  explicit HyperConnection(const HyperConnectionConfig& config);
  Stream prepare(const Tensor& x) const override;
  Tensor combine(const Tensor& out, const Stream& stream) const override;
  std::string name() const override { return "HyperConnection"; }

 private:
  Tensor squashed(const Tensor& x) const;
  HyperConnectionConfig config_;
  weft::LayerNorm norm_;
  Tensor static_beta_, static_alpha_, dynamic_alpha_fn_, dynamic_alpha_scale_, dynamic_beta_fn_, dynamic_beta_scale_;
};

}  // namespace weft::xt
