// Benchmark cases of the GPU: a name (the contract with torch/gpu.py), a function that builds the case and returns one
// step, and what a step must compute and move at the least. A case is timed over many steps between two
// synchronisations, launched one by one and again as one captured graph.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <weft/weft.h>

namespace weft::bench::gpu {

using Step = std::function<void()>;

struct Case {
  std::string name;
  std::function<Step()> prepare;
  double flops = 0, bytes = 0;
  bool capturable = true;  ///< false: the step waits for the device, or captures by itself; it has no second time
};

/// In the order in which they were added.
std::vector<Case>& cases();

/// flops, bytes: of one step, where a rate says something; 0 prints none. Tensors are made on the device by default.
inline void add(const std::string& name, std::function<Step()> prepare, double flops = 0, double bytes = 0,
                bool capturable = true) {
  cases().push_back({name, std::move(prepare), flops, bytes, capturable});
}

/// One forward and backward of f, to every floating input.
inline Step forward_backward(std::function<Tensor(const Tensors&)> f, Tensors inputs) {
  Tensors wanted;
  for (Tensor& x : inputs) {
    if (x.is_floating()) wanted.push_back(x.requires_grad_());
  }
  Tensor upstream;
  {
    NoGrad guard;
    const Tensor y = f(inputs);
    if (y.dim()) upstream = randn(y.shape(), {.dtype = y.dtype(), .device = y.device()});
  }
  return [=] {
    for (const Tensor& x : wanted) x.set_grad({});
    f(inputs).backward(upstream);
  };
}

}  // namespace weft::bench::gpu
