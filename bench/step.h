// What a benchmark case times, on the CPU and on the GPU.
#pragma once

#include <weft/weft.h>

#include <functional>

namespace weft::bench {

using Step = std::function<void()>;

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

}  // namespace weft::bench
