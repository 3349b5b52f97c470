// The ops on the CPU, float32: forward and backward to every input. Names as in torch/ops.py.
#include "case.h"

using namespace weft;
using namespace weft::bench;

namespace {

Step attention(bool causal) {
  return forward_backward(
      [=](const Tensors& x) { return scaled_dot_product_attention(x[0], x[1], x[2], {.causal = causal}); },
      {randn({1, 8, 1024, 64}), randn({1, 8, 1024, 64}), randn({1, 8, 1024, 64})});
}

Step layer_norm_step(int64_t rows, int64_t dim) {
  return forward_backward([=](const Tensors& x) { return layer_norm(x[0], {dim}, x[1], x[2]); },
                          {randn({rows, dim}), randn({dim}), randn({dim})});
}

Step cross_entropy_step(int64_t rows, int64_t classes) {
  return forward_backward([](const Tensors& x) { return cross_entropy(x[0], x[1]); },
                          {randn({rows, classes}), randint(0, classes, {rows})});
}

}  // namespace

int main(int argc, char** argv) {
  auto product = [](const Tensors& x) { return matmul(x[0], x[1]); };
  add(
      "matmul/1024x1024x1024/fwd",
      [] {
        const Tensor a = randn({1024, 1024}), b = randn({1024, 1024});
        return [=] {
          NoGrad guard;
          matmul(a, b);
        };
      },
      2.0 * 1024 * 1024 * 1024);
  add(
      "matmul/1024x1024x1024/step",
      [=] {
        return forward_backward(product, {randn({1024, 1024}), randn({1024, 1024})});
      },
      6.0 * 1024 * 1024 * 1024);
  add(
      "matmul/8x256x256x64/step",
      [=] {
        return forward_backward(product, {randn({8, 256, 64}), randn({8, 64, 256})});
      },
      6.0 * 8 * 256 * 64 * 256);
  add(
      "linear_gelu/1024x512x2048/step",
      [] {
        return forward_backward([](const Tensors& x) { return linear(x[0], x[1], x[2], Activation::gelu); },
                                {randn({1024, 512}), randn({2048, 512}), randn({2048})});
      },
      6.0 * 1024 * 512 * 2048);
  add(
      "attention/1x8x1024x64/step", [] { return attention(false); }, 7.0 * 8 * 1024 * 1024 * 64 * 2);
  add(
      "attention_causal/1x8x1024x64/step", [] { return attention(true); }, 3.5 * 8 * 1024 * 1024 * 64 * 2);
  add("layer_norm/1024x512/step", [] { return layer_norm_step(1024, 512); });
  add("layer_norm/16384x768/step", [] { return layer_norm_step(16384, 768); });
  add("softmax/8192x1024/step", [] {
    return forward_backward([](const Tensors& x) { return softmax(x[0], -1); }, {randn({8192, 1024})});
  });
  add("cross_entropy/1024x256/step", [] { return cross_entropy_step(1024, 256); });
  add("cross_entropy/1024x20000/step", [] { return cross_entropy_step(1024, 20000); });
  add("fft_conv/8x256x1024/step", [] {
    return forward_backward([](const Tensors& x) { return fft_conv(x[0], x[1]); },
                            {randn({8, 256, 1024}), randn({256, 1024})});
  });
  return bench::main(argc, argv);
}
