// Elementwise operations. Two tensors broadcast as in NumPy and promote as in PyTorch (dtype.h; a tensor without
// dimensions counts as a number); a Scalar takes the tensor's kind. Integers wrap around. Functions of one tensor keep
// its shape; where the result is not an integer, integers become float32.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft {

// --- arithmetic: a ∘ b -----------------------------------------------------------------------------------------------
/// a + b, a - b, a·b.
Tensor add(const Tensor& a, const Tensor& b);
Tensor add(const Tensor& a, Scalar b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, Scalar b);
Tensor sub(Scalar a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, Scalar b);
/// True division: integers give float32.
Tensor div(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, Scalar b);
Tensor div(Scalar a, const Tensor& b);
/// Integers to a negative power: the fraction rounded towards 0.
Tensor pow(const Tensor& a, const Tensor& b);
Tensor pow(const Tensor& a, Scalar b);
Tensor pow(Scalar a, const Tensor& b);
/// The larger (smaller) of two; NaN wins. Where they are equal each gets half of the gradient, as in PyTorch.
Tensor maximum(const Tensor& a, const Tensor& b);
Tensor minimum(const Tensor& a, const Tensor& b);
/// Remainder with the sign of a (fmod) or of b (remainder); b gets the gradient -dy·(the quotient, rounded). An integer
/// modulo 0 gives 0.
Tensor fmod(const Tensor& a, const Tensor& b);
Tensor fmod(const Tensor& a, Scalar b);
Tensor remainder(const Tensor& a, const Tensor& b);
Tensor remainder(const Tensor& a, Scalar b);
/// a / b rounded down, as Python's //; an integer divided by 0 gives 0. non_differentiable
Tensor floor_divide(const Tensor& a, const Tensor& b);
Tensor floor_divide(const Tensor& a, Scalar b);
/// The angle of the point (b, a), from -π to π.
Tensor atan2(const Tensor& a, const Tensor& b);
/// a + b·c for floating tensors that broadcast together, in one pass.
Tensor addcmul(const Tensor& a, const Tensor& b, const Tensor& c);

inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator+(const Tensor& a, Scalar b) { return add(a, b); }
inline Tensor operator+(Scalar a, const Tensor& b) { return add(b, a); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator-(const Tensor& a, Scalar b) { return sub(a, b); }
inline Tensor operator-(Scalar a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator*(const Tensor& a, Scalar b) { return mul(a, b); }
inline Tensor operator*(Scalar a, const Tensor& b) { return mul(b, a); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator/(const Tensor& a, Scalar b) { return div(a, b); }
inline Tensor operator/(Scalar a, const Tensor& b) { return div(a, b); }

// --- comparisons and logic: boolean results; non_differentiable ------------------------------------------------------
Tensor eq(const Tensor& a, const Tensor& b);           ///< non_differentiable
Tensor eq(const Tensor& a, Scalar b);                  ///< non_differentiable
Tensor ne(const Tensor& a, const Tensor& b);           ///< non_differentiable
Tensor ne(const Tensor& a, Scalar b);                  ///< non_differentiable
Tensor lt(const Tensor& a, const Tensor& b);           ///< non_differentiable
Tensor lt(const Tensor& a, Scalar b);                  ///< non_differentiable
Tensor le(const Tensor& a, const Tensor& b);           ///< non_differentiable
Tensor le(const Tensor& a, Scalar b);                  ///< non_differentiable
Tensor gt(const Tensor& a, const Tensor& b);           ///< non_differentiable
Tensor gt(const Tensor& a, Scalar b);                  ///< non_differentiable
Tensor ge(const Tensor& a, const Tensor& b);           ///< non_differentiable
Tensor ge(const Tensor& a, Scalar b);                  ///< non_differentiable
Tensor logical_and(const Tensor& a, const Tensor& b);  ///< non_differentiable
Tensor logical_or(const Tensor& a, const Tensor& b);   ///< non_differentiable
Tensor logical_xor(const Tensor& a, const Tensor& b);  ///< non_differentiable
Tensor logical_not(const Tensor& x);                   ///< non_differentiable
Tensor isnan(const Tensor& x);                         ///< non_differentiable
Tensor isinf(const Tensor& x);                         ///< non_differentiable
Tensor isfinite(const Tensor& x);                      ///< non_differentiable

/// condition ? a : b, broadcast together; condition is boolean.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
Tensor where(const Tensor& condition, const Tensor& a, Scalar b);
Tensor where(const Tensor& condition, Scalar a, const Tensor& b);
/// x with value where mask (boolean, broadcasts to x) is true.
Tensor masked_fill(const Tensor& x, const Tensor& mask, Scalar value);

// --- functions of one tensor -----------------------------------------------------------------------------------------
Tensor neg(const Tensor& x);
inline Tensor operator-(const Tensor& x) { return neg(x); }
Tensor abs(const Tensor& x);   ///< gradient 0 at 0
Tensor sign(const Tensor& x);  ///< gradient 0
Tensor square(const Tensor& x);
Tensor reciprocal(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor rsqrt(const Tensor& x);
Tensor exp(const Tensor& x);
Tensor exp2(const Tensor& x);
Tensor expm1(const Tensor& x);
Tensor log(const Tensor& x);
Tensor log2(const Tensor& x);
Tensor log10(const Tensor& x);
Tensor log1p(const Tensor& x);
Tensor sin(const Tensor& x);
Tensor cos(const Tensor& x);
Tensor tan(const Tensor& x);
Tensor asin(const Tensor& x);
Tensor acos(const Tensor& x);
Tensor atan(const Tensor& x);
Tensor sinh(const Tensor& x);
Tensor cosh(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor asinh(const Tensor& x);
Tensor acosh(const Tensor& x);
Tensor atanh(const Tensor& x);
Tensor erf(const Tensor& x);
Tensor erfc(const Tensor& x);
/// log|Γ(x)|. non_differentiable (the digamma function is not here)
Tensor lgamma(const Tensor& x);
Tensor floor(const Tensor& x);  ///< gradient 0, as for ceil, round (half to even) and trunc
Tensor ceil(const Tensor& x);
Tensor round(const Tensor& x);
Tensor trunc(const Tensor& x);
/// x limited to [low, high]; the gradient passes inside and at the limits.
Tensor clamp(const Tensor& x, Scalar low, Scalar high);
Tensor clamp_min(const Tensor& x, Scalar low);
Tensor clamp_max(const Tensor& x, Scalar high);

// --- activations -----------------------------------------------------------------------------------------------------
Tensor sigmoid(const Tensor& x);
Tensor softplus(const Tensor& x);     ///< log(1 + eˣ)
Tensor log_sigmoid(const Tensor& x);  ///< log(sigmoid(x)), without overflow
Tensor relu(const Tensor& x);
/// x, below 0 negative_slope·x.
Tensor leaky_relu(const Tensor& x, double negative_slope = 0.01);
/// x, below 0 alpha·(eˣ - 1). Source: arXiv:1511.07289.
Tensor elu(const Tensor& x, double alpha = 1.0);
/// x·Φ(x), with the normal distribution function Φ (arXiv:1606.08415).
Tensor gelu(const Tensor& x);
/// GELU's tanh approximation, as GPT-2 uses it.
Tensor gelu_tanh(const Tensor& x);
Tensor silu(const Tensor& x);          ///< x·sigmoid(x), also called swish
Tensor mish(const Tensor& x);          ///< x·tanh(softplus(x))
Tensor relu_squared(const Tensor& x);  ///< max(x, 0)² (Primer, arXiv:2109.08668)

}  // namespace weft
