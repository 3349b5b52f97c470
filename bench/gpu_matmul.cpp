// Products and dense layers. Names: sizes as rows x in x out, dtype, fwd (no graph) or step (forward and backward).
#include "gpu.h"

namespace weft::bench::gpu {

void add_matmul_cases();

namespace {

double product_flops(int64_t m, int64_t n, int64_t k) {
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

void add_product(int64_t m, int64_t k, int64_t n, DType d) {
  add(
      concat("matmul/", m, "x", k, "x", n, "/", d == bfloat16 ? "bf16" : "fp32", "/fwd"),
      [=] {
        const Tensor a = randn({m, k}, {.dtype = d}), b = randn({k, n}, {.dtype = d});
        return [=] { matmul(a, b); };
      },
      product_flops(m, n, k));
}

// float32 parameters and bfloat16 input under Autocast, as in training.
struct Dense {
  int64_t rows, in, out;
  const char* name;
  Activation activation;
  bool bias;
};
void add_dense(const Dense& c) {
  const std::string name = concat(c.name, "/", c.rows, "x", c.in, "x", c.out, "/bf16/");
  for (const bool backward : {false, true}) {
    add(
        name + (backward ? "step" : "fwd"),
        [=]() -> Step {
          const Tensor x = randn({c.rows, c.in}, {.dtype = bfloat16}).requires_grad_(),
                       w = (randn({c.out, c.in}) * 0.02).requires_grad_(),
                       dy = randn({c.rows, c.out}, {.dtype = bfloat16});
          const Tensor b = c.bias ? zeros({c.out}).requires_grad_() : Tensor();
          return [=] {
            for (const Tensor& t : {x, w, b}) {
              if (t.defined()) t.set_grad({});
            }
            const Autocast scope(bfloat16);
            const Tensor y = linear(x, w, b, c.activation);
            if (backward) y.backward(dy);
          };
        },
        (backward ? 3 : 1) * product_flops(c.rows, c.in, c.out));
  }
}

void add_mlp(int64_t rows, int64_t dim, int64_t hidden, Activation activation, const char* name, bool fused) {
  add(
      concat(fused ? "mlp_" : "two_linears_", name, "/", rows, "x", dim, "x", hidden, "/bf16/step"),
      [=]() -> Step {
        const Tensor x = randn({rows, dim}, {.dtype = bfloat16}).requires_grad_(),
                     w1 = (randn({hidden, dim}) * 0.02).requires_grad_(), b1 = zeros({hidden}).requires_grad_(),
                     w2 = (randn({dim, hidden}) * 0.02).requires_grad_(), b2 = zeros({dim}).requires_grad_(),
                     dy = randn({rows, dim}, {.dtype = bfloat16});
        return [=] {
          for (const Tensor& t : {x, w1, b1, w2, b2}) t.set_grad({});
          const Autocast scope(bfloat16);
          const Tensor y = fused ? mlp(x, w1, b1, w2, b2, {.activation = activation})
                                 : linear(linear(x, w1, b1, activation), w2, b2);
          y.backward(dy);
        };
      },
      6 * product_flops(rows, dim, hidden));
}

void add_conv(const char* name, const Shape& x, const Shape& w, const Conv2dOptions& o, double flops) {
  add(
      concat(name, "/bf16/step"),
      [=] {
        return forward_backward(
            [=](const Tensors& t) { return conv2d(t[0], t[1], t[2], o); },
            {randn(x, {.dtype = bfloat16}), randn(w, {.dtype = bfloat16}), randn({w[0]}, {.dtype = bfloat16})});
      },
      3 * flops);
}

}  // namespace

void add_matmul_cases() {
  add_product(8192, 8192, 8192, bfloat16);
  add_product(4096, 4096, 4096, float32);
  add_product(16384, 768, 50257, bfloat16);
  add_product(16384, 768, 50304, bfloat16);

  // GPT-2's: attention in and out, the feed-forward pair, the vocabulary; odd and padded.
  for (const bool bias : {false, true}) {
    add_dense({16384, 768, 2304, bias ? "linear_bias" : "linear", Activation::none, bias});
    add_dense({16384, 768, 768, bias ? "linear_bias" : "linear", Activation::none, bias});
    add_dense({16384, 3072, 768, bias ? "linear_bias" : "linear", Activation::none, bias});
  }
  add_dense({16384, 768, 3072, "linear_gelu_tanh", Activation::gelu_tanh, true});
  add_dense({16384, 768, 3072, "linear_gelu", Activation::gelu, true});
  add_dense({16384, 768, 3072, "linear_relu", Activation::relu, true});
  add_dense({16384, 768, 50257, "linear", Activation::none, false});
  add_dense({16384, 768, 50304, "linear", Activation::none, false});
  for (const bool fused : {false, true}) {
    add_mlp(16384, 768, 3072, Activation::gelu_tanh, "gelu_tanh", fused);
    add_mlp(16384, 768, 3072, Activation::gelu, "gelu", fused);
  }

  for (const int64_t out : {768, 2304, 3072}) {  // the column sums alone, beside linear_bias/.../fwd
    add(concat("bias_grad/16384x768x", out, "/bf16/step"), [=]() -> Step {
      const Tensor x = randn({16384, 768}, {.dtype = bfloat16}), w = randn({out, 768}, {.dtype = bfloat16}),
                   b = zeros({out}).requires_grad_(), dy = randn({16384, out}, {.dtype = bfloat16});
      return [=] {
        b.set_grad({});
        const Autocast scope(bfloat16);
        linear(x, w, b).backward(dy);
      };
    });
  }

  // FLASH's linear attention: groups of 256 rows, keys of 128, values of 1024.
  add(
      "matmul/bmm_64x(128x256)x(256x1024)/bf16/fwd",
      [] {
        const Tensor k = randn({16, 4, 256, 128}, {.dtype = bfloat16}),
                     v = randn({16, 4, 256, 1024}, {.dtype = bfloat16});
        return [=] { matmul(k.transpose(-2, -1), v); };
      },
      64 * product_flops(128, 1024, 256));

  add_conv("conv2d/patches_64x3x256x256_p32_512", {64, 3, 256, 256}, {512, 3, 32, 32}, {.stride = {32, 32}},
           product_flops(64 * 64, 512, 3072));
  add_conv("conv2d/3x3_32x64x56x56_64", {32, 64, 56, 56}, {64, 64, 3, 3}, {.padding = {1, 1}},
           product_flops(32 * 56 * 56, 64, 64 * 9));
  add_conv("conv2d/depthwise_17_16x512x1x1024", {16, 512, 1, 1024}, {512, 1, 1, 17}, {.padding = {0, 8}, .groups = 512},
           product_flops(16 * 512, 1024, 17));
}

}  // namespace weft::bench::gpu
