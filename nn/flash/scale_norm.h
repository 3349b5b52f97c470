// ScaleNorm: one gain for a whole vector of unit root mean square.
#pragma once

#include <weft/nn/config.h>
#include <weft/nn/norm.h>

namespace weft::flash {

struct ScaleNormConfig {
  int64_t dim = 0;
  double eps = 1e-5;  ///< smallest root mean square to divide by
};
inline Fields fields(ScaleNormConfig& c) { return {{"dim", &c.dim}, {"eps", &c.eps}}; }

/// y = g · x / max(‖x‖ / √dim, eps). x: [..., dim] → the same. Parameter g [1], ones at first.
/// Nguyen & Salazar, arXiv:1910.05895.
class ScaleNorm : public Norm {
 public:
  explicit ScaleNorm(const ScaleNormConfig& config);
  Tensor forward(const Tensor& x) const override;
  std::pair<Tensor, Tensor> add(const Tensor& x, const Tensor& residual) const override;
  std::string name() const override { return "ScaleNorm"; }

  Tensor g;

 private:
  ScaleNormConfig config_;
};

/// The normalisation that GAU and FLASH name by its class: "LayerNorm", "ScaleNorm", "RMSNorm" or "Identity".
std::shared_ptr<Norm> make_norm(const std::string& klass, int64_t dim);

}  // namespace weft::flash
