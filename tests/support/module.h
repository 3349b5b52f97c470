// What tests of modules share.
#pragma once

#include <weft/autograd/autograd.h>
#include <weft/autograd/gradcheck.h>
#include <weft/nn/module.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/random.h>

namespace weft::test {

/// float64, in evaluation mode, with every parameter away from its initial value.
inline void prepare(Module& m) {
  m.to(float64);
  m.eval();
  NoGrad guard;
  for (auto& [name, p] : m.named_parameters()) Tensor(p).copy_(p.detach() + randn(p.shape(), {.dtype = float64}) * 0.3);
}

/// float64, normal, with a gradient.
inline Tensor input(const Shape& shape) { return randn(shape, {.dtype = float64, .requires_grad = true}); }

/// [b, n], true on the first real[i] places of row i.
inline Tensor mask_of(int64_t n, const std::vector<int64_t>& real) {
  std::vector<bool> values;
  for (int64_t r : real)
    for (int64_t i = 0; i < n; ++i) values.push_back(i < r);
  return tensor(values, {static_cast<int64_t>(real.size()), n});
}

/// Checks the gradients of f(x) by x and by every parameter of m.
inline void check_gradients(Module& m, const Tensor& x, const std::function<Tensor(const Tensor&)>& f) {
  Tensors inputs{x};
  for (const Tensor& p : m.parameters()) inputs.push_back(p);
  gradcheck([&f](const Tensors& all) { return Tensors{f(all[0])}; }, inputs, {.fast_mode = true});
}

}  // namespace weft::test
