// What GAU and FLASH apply to scores in place of softmax: functions of each score alone.
#pragma once

#include <weft/nn/module.h>
#include <weft/ops/attention.h>

namespace weft::flash {

/// max(x, 0)² (So et al., arXiv:2109.08668).
class ReLUSquared : public Module {
 public:
  Tensor forward(const Tensor& x) const override;
  std::string name() const override { return "ReLUSquared"; }
};

/// The normal distribution function with mean √½ and variance 1/4π, close to max(x, 0)² but bounded (Ma et al.,
/// arXiv:2209.10655).
class LaplacianAttnFn : public Module {
 public:
  Tensor forward(const Tensor& x) const override;
  std::string name() const override { return "LaplacianAttnFn"; }
};

/// The one of the two that the option laplace_attn_fn chooses, as a module and as what attention calls it.
std::shared_ptr<Module> make_attention_fn(bool laplace);
inline AttentionFn attention_fn(bool laplace) { return laplace ? AttentionFn::laplace : AttentionFn::relu_squared; }

}  // namespace weft::flash
