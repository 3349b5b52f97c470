// Linear: y = activation(x · weightᵀ + bias).
#pragma once

#include <weft/nn/module.h>
#include <weft/ops/linear.h>
#include <weft/ops/matmul.h>

namespace weft {

/// x: [..., in_features] → [..., out_features]. Parameters weight [out, in] and bias [out], both drawn uniformly within
/// ± 1/sqrt(in_features), as in PyTorch.
class Linear : public Module {
 public:
  Linear(int64_t in_features, int64_t out_features, bool bias = true);
  Tensor forward(const Tensor& x) const override { return linear(x, weight, bias); }
  /// With the activation fused.
  Tensor operator()(const Tensor& x, Activation activation) const { return linear(x, weight, bias, activation); }
  using Module::operator();
  std::string name() const override { return "Linear"; }
  std::string extra_repr() const override;

  Tensor weight, bias;
};

/// What each of several layers without bias gives for x [..., in_features]. On a GPU many rows go through one product
/// of all weights: one product reads x once, and uses the device better than several narrow ones. Throws without
/// layers, and for one with a bias.
Tensors forward_together(const Tensor& x, const std::vector<const Linear*>& layers);

}  // namespace weft
