#include <weft/nn/xt/residual.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>

namespace weft::xt {
namespace {

Tensor scaled(const Tensor& residual, const Tensor& scale) { return scale.defined() ? residual * scale : residual; }

}  // namespace

Residual::Residual(int64_t dim, bool scale_residual, double constant) : constant_(constant) {
  if (scale_residual) residual_scale_ = register_parameter("residual_scale", ones({dim}));
}

Tensor Residual::combine(const Tensor& out, const Stream& stream) const {
  const Tensor residual = scaled(stream.residual, residual_scale_);
  return out + (constant_ == 1 ? residual : residual * constant_);
}

GRUGating::GRUGating(int64_t dim, bool scale_residual) : gru_(std::make_shared<GRUCell>(dim, dim)) {
  register_module("gru", gru_);
  if (scale_residual) residual_scale_ = register_parameter("residual_scale", ones({dim}));
}

Tensor GRUGating::combine(const Tensor& out, const Stream& stream) const {
  return gru_->step(out, scaled(stream.residual, residual_scale_));
}

}  // namespace weft::xt
