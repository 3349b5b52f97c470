// What a training step does besides the model: the optimiser's walk over all parameters, and the price of a launch.
#include "gpu.h"

#include <weft/cuda/runtime.h>

namespace weft::bench::gpu {
namespace {

// GPT-2 124M's 148 parameters.
std::vector<Shape> gpt2_shapes() {
  std::vector<Shape> shapes = {{50257, 768}, {1024, 768}, {768}, {768}};
  for (int layer = 0; layer < 12; ++layer) {
    const std::vector<Shape> one = {{768}, {768}, {768, 2304}, {2304}, {768, 768},  {768},
                                    {768}, {768}, {768, 3072}, {3072}, {3072, 768}, {768}};
    shapes.insert(shapes.end(), one.begin(), one.end());
  }
  return shapes;
}

Tensors gpt2_parameters() {
  Tensors params;
  for (const Shape& s : gpt2_shapes()) {
    params.push_back(randn(s, {.requires_grad = true}));
    params.back().set_grad(randn(s));
  }
  return params;
}

double elements() {
  double n = 0;
  for (const Shape& s : gpt2_shapes()) n += static_cast<double>(s.numel());
  return n;
}

Step adamw() {
  auto optimizer = std::make_shared<AdamW>(gpt2_parameters(), AdamWOptions{.lr = 1e-4});
  return [=] { optimizer->step(); };
}

Step adamw_clipped() {
  auto optimizer = std::make_shared<AdamW>(gpt2_parameters(), AdamWOptions{.lr = 1e-4});
  return [=] { optimizer->step_clipped(1.0); };
}

Step sgd() {
  auto optimizer = std::make_shared<SGD>(gpt2_parameters(), SGDOptions{.lr = 1e-4, .momentum = 0.9});
  return [=] { optimizer->step(); };
}

Step norm() {
  const Tensors params = gpt2_parameters();
  return [=] { clip_grad_norm_(params, 1e9); };
}

// A chain of small kernels: what a launch costs the host, and the GPU in a graph.
Step launches() {
  const Tensor x = ones({256});
  return [=] {
    NoGrad guard;
    Tensor y = x;
    for (int i = 0; i < 100; ++i) y = add(y, 1);
  };
}

Step upload(bool pinned) {
  const Tensor host = zeros({int64_t{1} << 24}, {.dtype = uint8, .device = Device::cpu()});
  const Tensor source = pinned ? pin_memory(host) : host;
  Tensor there = empty({int64_t{1} << 24}, uint8);
  return [=]() mutable { there.copy_(source, true); };
}

}  // namespace

void add_runtime_cases() {
  add("optim/adamw/124m", adamw, 0, elements() * 4 * 7);
  add("optim/adamw_clipped/124m", adamw_clipped, 0, elements() * 4 * 8);
  add("optim/sgd_momentum/124m", sgd, 0, elements() * 4 * 5);
  add("optim/norm/124m", norm, 0, elements() * 4);
  add("launch/100_small_kernels", launches);
  add(
      "upload/16mb_pageable", [] { return upload(false); }, 0, 1 << 24);
  add(
      "upload/16mb_pinned", [] { return upload(true); }, 0, 1 << 24);
}

}  // namespace weft::bench::gpu
