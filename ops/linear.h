// Fused dense layers: products with a weight, their bias and their activation.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft {

enum class Activation : uint8_t { none, relu, gelu, gelu_tanh, silu };

/// activation(x · weightᵀ + bias). x: [..., in], weight: [out, in], bias: [out] or undefined → [..., out]. On CUDA bias
/// and activation are part of the product where cuBLASLt has them, else one kernel after it; the gradient of the bias
/// comes out of a product or of the activation's gradient. Gradients of float32 parameters are float32, also where
/// Autocast computes in a half type.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, Activation activation = Activation::none);

/// linear(value·silu(gate), weight, bias), the last map of a gated unit. value, gate: [..., in], weight: [out, in],
/// bias: [out] or undefined, all of one floating dtype but for what Autocast converts → [..., out]. The product is not
/// kept for the backward pass, which makes it again on the way. Throws for other dtypes and shapes. Source: SwiGLU of
/// arXiv:2002.05202.
Tensor swiglu_linear(const Tensor& value, const Tensor& gate, const Tensor& weight, const Tensor& bias = {});

struct MlpOptions {
  Activation activation = Activation::gelu;
  bool recompute = false;  ///< keeps only one of the two hidden tensors [..., hidden] for the backward pass
};

/// linear(linear(x, weight1, bias1, activation), weight2, bias2) as one operation: the gradient of the activation joins
/// the product that the backward pass has before it, and an activation can be computed again instead of kept. x: [...,
/// in], weight1: [hidden, in], weight2: [out, hidden], biases [hidden] and [out] or undefined → [..., out].
Tensor mlp(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2, const Tensor& bias2,
           const MlpOptions& options = {});

}  // namespace weft
