// Normalisation layers, and the residual streams between them.
#pragma once

#include <weft/nn/module.h>
#include <weft/ops/norm.h>

namespace weft {

/// A layer that normalises x, whose shape it keeps.
class Norm : public Module {
 public:
  /// {x + residual, forward(x + residual)}: a residual stream's next state and what the next layer takes of it.
  /// residual: x's shape, or an Error. Where a norm has a kernel for the two, one walk over memory.
  virtual std::pair<Tensor, Tensor> add(const Tensor& x, const Tensor& residual) const;
};

/// A residual stream and a layer's output that is still to be added to it, of one shape: the norm that comes next does
/// both at once.
struct ResidualStream {
  Tensor x;
  Tensor branch = {};  ///< undefined: nothing is to be added

  Tensor sum() const;
  /// {sum(), norm(sum())}
  std::pair<Tensor, Tensor> add_norm(const Norm& norm) const;
};

/// Over the last dimensions, of sizes normalized_shape; weight starts at 1, bias at 0. x: [..., *normalized_shape].
class LayerNorm : public Norm {
 public:
  explicit LayerNorm(Shape normalized_shape, double eps = 1e-5, bool elementwise_affine = true, bool bias = true);
  explicit LayerNorm(int64_t dim) : LayerNorm(Shape{dim}) {}
  Tensor forward(const Tensor& x) const override { return layer_norm(x, shape_, weight, bias, eps_); }
  std::pair<Tensor, Tensor> add(const Tensor& x, const Tensor& residual) const override {
    return add_layer_norm(x, residual, shape_, weight, bias, eps_);
  }
  std::string name() const override { return "LayerNorm"; }
  std::string extra_repr() const override;

  Tensor weight, bias;

 private:
  Shape shape_;
  double eps_;
};

/// x / sqrt(mean x² + eps) · weight over the last dimensions; without eps the spacing of 1 in x's compute type.
class RMSNorm : public Norm {
 public:
  explicit RMSNorm(Shape normalized_shape, std::optional<double> eps = {}, bool elementwise_affine = true);
  explicit RMSNorm(int64_t dim) : RMSNorm(Shape{dim}) {}
  Tensor forward(const Tensor& x) const override { return rms_norm(x, shape_, weight, eps_); }
  std::pair<Tensor, Tensor> add(const Tensor& x, const Tensor& residual) const override {
    return add_rms_norm(x, residual, shape_, weight, eps_);
  }
  std::string name() const override { return "RMSNorm"; }
  std::string extra_repr() const override;

  Tensor weight;

 private:
  Shape shape_;
  std::optional<double> eps_;
};

/// Over groups of channels and all positions. x: [n, channels, ...].
class GroupNorm : public Norm {
 public:
  GroupNorm(int64_t num_groups, int64_t num_channels, double eps = 1e-5, bool affine = true);
  Tensor forward(const Tensor& x) const override { return group_norm(x, groups_, weight, bias, eps_); }
  std::string name() const override { return "GroupNorm"; }
  std::string extra_repr() const override;

  Tensor weight, bias;

 private:
  int64_t groups_, channels_;
  double eps_;
};

}  // namespace weft
