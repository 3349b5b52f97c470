// Norms, softmax, losses and embedding, as steps: forward and backward.
#include "gpu.h"

#include <weft/ops/copy.h>

namespace weft::bench::gpu {
namespace {

// The forward pass alone.
Step forward(std::function<Tensor()> f) {
  return [=] {
    NoGrad guard;
    f();
  };
}

// x comes first; parameters are float32 whatever it is.
void add_norms() {
  for (DType d : {float32, bfloat16}) {
    const double moved = 16384.0 * 768 * static_cast<double>(size_of(d)) * 5;  // x, y; x, dy, dx
    add(
        concat("layer_norm/16x1024x768/", d == float32 ? "fp32" : "bf16", "/step"),
        [d] {
          return forward_backward([](const Tensors& x) { return layer_norm(x[0], {768}, x[1], x[2]); },
                                  {randn({16, 1024, 768}, {.dtype = d}), randn({768}), randn({768})});
        },
        0, moved);
    add(
        concat("layer_norm/16x1024x768/", d == float32 ? "fp32" : "bf16", "/forward"),
        [d] {
          const Tensor x = randn({16, 1024, 768}, {.dtype = d}), w = randn({768}), b = randn({768});
          return forward([=] { return layer_norm(x, {768}, w, b); });
        },
        0, moved * 2 / 5);
    add(
        concat("add_layer_norm/16x1024x768/", d == float32 ? "fp32" : "bf16", "/step"),
        [d] {
          return forward_backward(
              [](const Tensors& x) {
                const auto [sum, y] = add_layer_norm(x[0], x[1], {768}, x[2], x[3]);
                return add(sum, y);
              },
              {randn({16, 1024, 768}, {.dtype = d}), randn({16, 1024, 768}, {.dtype = d}), randn({768}), randn({768})});
        },
        0, moved * 11 / 5);  // x, residual, sum, y; sum, dy, dsum, dx; and the addition here: sum, y, result
    add(
        concat("rms_norm/16x1024x768/", d == float32 ? "fp32" : "bf16", "/step"),
        [d] {
          return forward_backward([](const Tensors& x) { return rms_norm(x[0], {768}, x[1]); },
                                  {randn({16, 1024, 768}, {.dtype = d}), randn({768})});
        },
        0, moved);
  }
}

void add_softmax() {
  for (const auto& [rows, n] : {std::pair<int64_t, int64_t>{16384, 1024}, {2048, 50257}}) {
    add(
        concat("softmax/", rows, "x", n, "/fp32/step"),
        [rows = rows, n = n] {
          return forward_backward([](const Tensors& x) { return softmax(x[0], -1); }, {randn({rows, n})});
        },
        0, static_cast<double>(rows * n) * 4 * 5);  // x, y; y, dy, dx
  }
}

constexpr int64_t rows = 16384, classes = 50257, width = 768;

// Logits that are a result and nobody else's: memory as it is, handed out by an operation without a cost.
Step over_logits(DType dtype) {
  const Tensor source = zeros({1}, {.dtype = dtype, .device = Device::cuda(), .requires_grad = true});
  const Tensor target = randint(0, classes, {rows});
  Tensor memory = empty({rows, classes}, dtype, Device::cuda());  // what the pool hands out again
  fill_into(memory, 1);
  return [=] {
    source.set_grad({});
    Tensor logits = record("source", empty({rows, classes}, dtype, Device::cuda()), {source},
                           [=](const Tensor&) -> Grads { return {Tensor()}; });
    cross_entropy_(std::move(logits), target).backward();
  };
}

void add_losses() {
  for (DType d : {float32, bfloat16}) {
    const double logits = static_cast<double>(rows * classes * static_cast<int64_t>(size_of(d)));
    add(
        concat("cross_entropy/16384x50257/", d == float32 ? "fp32" : "bf16", "/step"),
        [d] {
          return forward_backward([](const Tensors& x) { return cross_entropy(x[0], x[1]); },
                                  {randn({rows, classes}, {.dtype = d}), randint(0, classes, {rows})});
        },
        0, logits * 3);
    add(
        concat("cross_entropy/16384x50257/", d == float32 ? "fp32" : "bf16", "/forward"),
        [d] {
          const Tensor x = randn({rows, classes}, {.dtype = d}), t = randint(0, classes, {rows});
          return forward([=] { return cross_entropy(x, t); });
        },
        0, logits);
    add(
        concat("cross_entropy_/16384x50257/", d == float32 ? "fp32" : "bf16", "/step"), [d] { return over_logits(d); },
        0, logits * 2);
    add(
        concat("linear_cross_entropy/16384x768x50257/", d == float32 ? "fp32" : "bf16", "/step"),
        [d] {
          return forward_backward([](const Tensors& x) { return linear_cross_entropy(x[0], x[1], x[2]); },
                                  {randn({rows, width}, {.dtype = d}), mul(randn({classes, width}), 0.02).to(d),
                                   randint(0, classes, {rows})});
        },
        6.0 * rows * width * classes);
  }
}

void add_embedding() {
  add(
      "embedding/16384x50257x768/step",
      [] {
        return forward_backward([](const Tensors& x) { return embedding(x[0], x[1]); },
                                {randint(0, 50257, {16384}), randn({50257, 768})});
      },
      0, (16384.0 * 4 + 50257.0) * 768 * 4);  // rows and results; upstream and sums; zeros
}

void add_rotary() {
  for (DType d : {float32, bfloat16}) {
    add(
        concat("rotary/16x8x1024x64/", d == float32 ? "fp32" : "bf16", "/step"),
        [d] {
          const Tensor angles = rand({1024, 16});
          return forward_backward([=](const Tensors& x) { return rotary(x[0], angles); },
                                  {randn({16, 8, 1024, 64}, {.dtype = d})});
        },
        0, 16.0 * 8 * 1024 * 64 * static_cast<double>(size_of(d)) * 4);
  }
}

}  // namespace

void add_rows_cases() {
  add_norms();
  add_softmax();
  add_losses();
  add_embedding();
  add_rotary();
}

}  // namespace weft::bench::gpu
