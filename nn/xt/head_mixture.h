// HeadMixture: linear combinations of attention heads ("talking heads", arXiv:2003.02436).
#pragma once

#include <weft/nn/module.h>

namespace weft::xt {

/// x: [b, heads, n, m] → the same; y[i] = Σⱼ weight[i, j] x[j]. weight [heads, heads, 1, 1] (a convolution's shape)
/// starts as the identity.
class HeadMixture : public Module {
 public:
  explicit HeadMixture(int64_t heads, bool identity = true);
  Tensor forward(const Tensor& x) const override;
  std::string name() const override { return "HeadMixture"; }

  Tensor weight;
};

}  // namespace weft::xt
