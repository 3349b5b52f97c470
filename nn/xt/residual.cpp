#include <weft/nn/init.h>
#include <weft/nn/xt/residual.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/linear.h>
#include <weft/ops/matmul.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft::xt {
namespace {

// torch.nn.GRUCell: gates r, z and candidate n, one below the other in each matrix.
class GRUCell : public Module {
 public:
  explicit GRUCell(int64_t dim) {
    const double bound = 1 / std::sqrt(static_cast<double>(dim));
    const auto parameter = [&](const char* name, const Shape& shape) {
      Tensor t = register_parameter(name, empty(shape));
      init::uniform_(t, -bound, bound);
      return t;
    };
    weight_ih = parameter("weight_ih", {3 * dim, dim}), weight_hh = parameter("weight_hh", {3 * dim, dim});
    bias_ih = parameter("bias_ih", {3 * dim}), bias_hh = parameter("bias_hh", {3 * dim});
  }
  // x, state: [..., dim]
  Tensor step(const Tensor& x, const Tensor& state) const {
    const Tensors from_x = chunk(linear(x, weight_ih, bias_ih), 3, -1);
    const Tensors from_state = chunk(linear(state, weight_hh, bias_hh), 3, -1);
    const Tensor r = sigmoid(from_x[0] + from_state[0]), z = sigmoid(from_x[1] + from_state[1]);
    const Tensor n = tanh(from_x[2] + r * from_state[2]);
    return n + z * (state - n);
  }
  std::string name() const override { return "GRUCell"; }

  Tensor weight_ih, weight_hh, bias_ih, bias_hh;
};

Tensor scaled(const Tensor& residual, const Tensor& scale) { return scale.defined() ? residual * scale : residual; }

}  // namespace

Residual::Residual(int64_t dim, bool scale_residual, double constant) : constant_(constant) {
  if (scale_residual) residual_scale_ = register_parameter("residual_scale", ones({dim}));
}

Tensor Residual::combine(const Tensor& out, const Stream& stream) const {
  const Tensor residual = scaled(stream.residual, residual_scale_);
  return out + (constant_ == 1 ? residual : residual * constant_);
}

GRUGating::GRUGating(int64_t dim, bool scale_residual) : gru_(std::make_shared<GRUCell>(dim)) {
  register_module("gru", gru_);
  if (scale_residual) residual_scale_ = register_parameter("residual_scale", ones({dim}));
}

Tensor GRUGating::combine(const Tensor& out, const Stream& stream) const {
  return static_cast<const GRUCell&>(*gru_).step(out, scaled(stream.residual, residual_scale_));
}

}  // namespace weft::xt
