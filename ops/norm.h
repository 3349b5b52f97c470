// Normalisation of rows. Statistics are taken in float32 (float64 for float64) whatever the storage; weight and bias
// may have another floating dtype than x, the result has that of x.
#pragma once

#include <weft/tensor/tensor.h>

#include <optional>
#include <utility>

namespace weft {

/// (x - mean) / sqrt(variance + eps) · (weight + weight_offset) + bias over the last dimensions, whose sizes are
/// normalized_shape. x: [..., *normalized_shape]; weight, bias: normalized_shape or undefined, then no offset counts.
/// Source: arXiv:1607.06450.
Tensor layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight = {}, const Tensor& bias = {},
                  double eps = 1e-5, double weight_offset = 0);

/// {x + residual, layer_norm(x + residual)}: a residual stream's next state and what the next layer takes of it, in one
/// walk over memory each way where x and residual have one dtype. residual: x's shape.
std::pair<Tensor, Tensor> add_layer_norm(const Tensor& x, const Tensor& residual, const Shape& normalized_shape,
                                         const Tensor& weight = {}, const Tensor& bias = {}, double eps = 1e-5,
                                         double weight_offset = 0);

/// x / sqrt(mean x² + eps) · weight over the last dimensions. Without eps: the spacing of 1 in the compute type, as in
/// PyTorch. Source: arXiv:1910.07467.
Tensor rms_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight = {},
                std::optional<double> eps = {});

/// {x + residual, rms_norm(x + residual)}, as add_layer_norm.
std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Shape& normalized_shape,
                                       const Tensor& weight = {}, std::optional<double> eps = {});

/// x / max(‖x‖ / sqrt(d), eps) · gain over the last dimension, of size d; gain: one element. Source: arXiv:1910.05895,
/// in the form that the FLASH implementations use.
Tensor scale_norm(const Tensor& x, const Tensor& gain, double eps = 1e-5);

/// {x + residual, scale_norm(x + residual)}, as add_layer_norm.
std::pair<Tensor, Tensor> add_scale_norm(const Tensor& x, const Tensor& residual, const Tensor& gain,
                                         double eps = 1e-5);

/// Normalises each of `groups` equal groups of channels over the group and all positions, then scales and shifts each
/// channel. x: [n, c, ...]; weight, bias: [c] or undefined. Source: arXiv:1803.08494.
Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight = {}, const Tensor& bias = {},
                  double eps = 1e-5);

/// x / max(‖x‖, eps) with the Euclidean norm over dim.
Tensor normalize(const Tensor& x, int64_t dim = -1, double eps = 1e-12);

}  // namespace weft
