#include <weft/nn/flash/scale_norm.h>
#include <weft/ops/create.h>

namespace weft::flash {

ScaleNorm::ScaleNorm(const ScaleNormConfig& config) : config_(config) {
  check(config.dim > 0, "ScaleNorm: dim must be positive, got ", config.dim);
  check(config.eps > 0, "ScaleNorm: eps must be positive, got ", config.eps);
  g = register_parameter("g", ones({1}));
}

Tensor ScaleNorm::forward(const Tensor& x) const {
  check(x.dim() > 0 && x.size(-1) == config_.dim, "ScaleNorm: expected [..., ", config_.dim, "], got ", x.shape());
  return scale_norm(x, g, config_.eps);
}

std::pair<Tensor, Tensor> ScaleNorm::add(const Tensor& x, const Tensor& residual) const {
  check(x.dim() > 0 && x.size(-1) == config_.dim, "ScaleNorm: expected [..., ", config_.dim, "], got ", x.shape());
  return add_scale_norm(x, residual, g, config_.eps);
}

namespace {

class NoNorm : public Norm {
 public:
  Tensor forward(const Tensor& x) const override { return x; }
  std::string name() const override { return "Identity"; }
};

}  // namespace

std::shared_ptr<Norm> make_norm(const std::string& klass, int64_t dim) {
  if (klass == "LayerNorm") return std::make_shared<LayerNorm>(dim);
  if (klass == "ScaleNorm") return std::make_shared<ScaleNorm>(ScaleNormConfig{.dim = dim});
  if (klass == "RMSNorm") return std::make_shared<RMSNorm>(dim);
  if (klass == "Identity") return std::make_shared<NoNorm>();
  fail("norm_klass must be LayerNorm, ScaleNorm, RMSNorm or Identity, got ", klass);
}

}  // namespace weft::flash
