#include <weft/nn/flash/offset_scale.h>
#include <weft/nn/init.h>
#include <weft/ops/affine.h>
#include <weft/ops/create.h>
#include <weft/ops/shape.h>

namespace weft::flash {

OffsetScale::OffsetScale(const OffsetScaleConfig& config) {
  check(config.dim > 0 && config.heads > 0, "OffsetScale: dim and heads must be positive, got ", config.dim, " and ",
        config.heads);
  gamma = register_parameter("gamma", empty({config.heads, config.dim}));
  beta = register_parameter("beta", zeros({config.heads, config.dim}));
  init::normal_(gamma, 0, 0.02);
}

Tensor OffsetScale::forward(const Tensor& x) const { return stack(heads(x), -2); }

Tensors OffsetScale::heads(const Tensor& x, const Tensor& angles) const { return affine_heads(x, gamma, beta, angles); }

}  // namespace weft::flash
