#include <weft/nn/init.h>
#include <weft/nn/linear.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft {

Linear::Linear(int64_t in, int64_t out, bool with_bias) {
  check(in >= 0 && out >= 0, "Linear: sizes must not be negative, got ", in, " and ", out);
  weight = register_parameter("weight", empty({out, in}));
  if (with_bias) bias = register_parameter("bias", empty({out}));
  const double bound = in > 0 ? 1 / std::sqrt(static_cast<double>(in)) : 0;
  init::uniform_(weight, -bound, bound);
  if (with_bias) init::uniform_(bias, -bound, bound);
}

Tensors forward_together(const Tensor& x, const std::vector<const Linear*>& layers) {
  constexpr int64_t kManyRows = 256;  // from which on joining the weights costs less than it saves
  check(!layers.empty() && x.dim() > 0, "forward_together: expected layers and an input that has features");
  Tensors weights;
  std::vector<int64_t> sizes;
  for (const Linear* layer : layers) {
    check(!layer->bias.defined(), "forward_together: the layers must have no bias");
    weights.push_back(layer->weight), sizes.push_back(layer->weight.size(0));
  }
  if (x.device().is_cuda() && layers.size() > 1 && x.numel() >= kManyRows * x.size(-1))
    return split(linear(x, cat(weights, 0)), sizes, -1);
  Tensors y;
  for (const Tensor& w : weights) y.push_back(linear(x, w));
  return y;
}

std::string Linear::extra_repr() const {
  return concat("in_features=", weight.size(1), ", out_features=", weight.size(0),
                ", bias=", bias.defined() ? "True" : "False");
}

}  // namespace weft
