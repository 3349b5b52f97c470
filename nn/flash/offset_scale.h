// OffsetScale: several cheap variants of one projection.
#pragma once

#include <weft/nn/config.h>
#include <weft/nn/module.h>

namespace weft::flash {

struct OffsetScaleConfig {
  int64_t dim = 0;
  int64_t heads = 1;
};
inline Fields fields(OffsetScaleConfig& c) { return {{"dim", &c.dim}, {"heads", &c.heads}}; }

/// out[h] = x · gamma[h] + beta[h]. Parameters gamma (normal, std 0.02) and beta (zeros), both [heads, dim].
class OffsetScale : public Module {
 public:
  explicit OffsetScale(const OffsetScaleConfig& config);
  /// All heads as one tensor: [..., dim] → [..., heads, dim].
  Tensor forward(const Tensor& x) const override;
  /// The heads one by one: [..., dim] each; x [..., n, dim] turned by angles [n, r / 2] where given, as rotary() does.
  Tensors heads(const Tensor& x, const Tensor& angles = {}) const;
  std::string name() const override { return "OffsetScale"; }

  Tensor gamma, beta;
};

}  // namespace weft::flash
