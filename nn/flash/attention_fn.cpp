#include <weft/nn/flash/attention_fn.h>
#include <weft/ops/elementwise.h>

#include <cmath>
#include <numbers>

namespace weft::flash {

Tensor ReLUSquared::forward(const Tensor& x) const { return relu_squared(x); }

Tensor LaplacianAttnFn::forward(const Tensor& x) const {
  // (1 + erf(z)) / 2 = erfc(-z) / 2, which keeps its digits in the lower tail.  z = (x - μ) / (σ√2)
  const double mean = std::sqrt(0.5), std = std::sqrt(1 / (4 * std::numbers::pi));
  return erfc((mean - x) * (1 / (std * std::numbers::sqrt2))) * 0.5;
}

std::shared_ptr<Module> make_attention_fn(bool laplace) {
  if (laplace) return std::make_shared<LaplacianAttnFn>();
  return std::make_shared<ReLUSquared>();
}

}  // namespace weft::flash
