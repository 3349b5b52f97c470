// The normalisations of x-transformers. None has a bias.
#pragma once

#include <weft/nn/linear.h>
#include <weft/nn/norm.h>

#include <optional>

namespace weft::xt {

/// Rows of x brought to one length, times a scale. Where unit_offset, what is stored is the scale less 1, so that
/// weight decay pulls it towards 1. condition, [b, 1 or n, dim_condition], is what adaptive norms take their scale
/// from.
class Norm : public weft::Norm {
 public:
  Tensor forward(const Tensor& x) const override { return (*this)(x, {}); }
  virtual Tensor operator()(const Tensor& x, const Tensor& condition) const = 0;
  using Module::operator();
};

/// (x - mean) / sqrt(variance + 1e-5) · gamma. arXiv:1607.06450
class LayerNorm : public Norm {
 public:
  explicit LayerNorm(int64_t dim, bool unit_offset = false);
  Tensor operator()(const Tensor& x, const Tensor& condition) const override;
  using Module::operator();
  std::pair<Tensor, Tensor> add(const Tensor& x, const Tensor& residual) const override;
  std::string name() const override { return "LayerNorm"; }
  Tensor gamma;  // [dim]

 private:
  bool unit_offset_;
};

/// x / ‖x‖ · √dim · g. arXiv:1910.07467
class RMSNorm : public Norm {
 public:
  explicit RMSNorm(int64_t dim, bool unit_offset = false) : RMSNorm(dim, dim, unit_offset) {}
  Tensor operator()(const Tensor& x, const Tensor& condition) const override;
  using Module::operator();
  std::string name() const override { return "RMSNorm"; }
  Tensor g;  // [dim]

 protected:
  RMSNorm(int64_t dim, int64_t scales, bool unit_offset);

 private:
  double scale_;
  bool unit_offset_;
};

/// The same with one scale for all features. arXiv:1910.05895
class ScaleNorm : public RMSNorm {
 public:
  explicit ScaleNorm(int64_t dim, bool unit_offset = false) : RMSNorm(dim, 1, unit_offset) {}
  std::string name() const override { return "ScaleNorm"; }
};

/// x / ‖x‖ · √dim. arXiv:2307.14995
class SimpleRMSNorm : public Norm {
 public:
  explicit SimpleRMSNorm(int64_t dim);
  Tensor operator()(const Tensor& x, const Tensor& condition) const override;
  using Module::operator();
  std::string name() const override { return "SimpleRMSNorm"; }

 private:
  double scale_;
};

/// Layer norm (or RMS norm), scaled by 1 + to_gamma(condition); to_gamma starts at zero.
class AdaptiveNorm : public Norm {
 public:
  AdaptiveNorm(int64_t dim, int64_t dim_condition, bool centred);
  Tensor operator()(const Tensor& x, const Tensor& condition) const override;
  using Module::operator();
  std::string name() const override { return centred_ ? "AdaptiveLayerNorm" : "AdaptiveRMSNorm"; }

 private:
  bool centred_;
  double scale_;
  Linear to_gamma_;
};
class AdaptiveLayerNorm : public AdaptiveNorm {
 public:
  explicit AdaptiveLayerNorm(int64_t dim, std::optional<int64_t> dim_condition = {})
      : AdaptiveNorm(dim, dim_condition.value_or(dim), true) {}
};
class AdaptiveRMSNorm : public AdaptiveNorm {
 public:
  explicit AdaptiveRMSNorm(int64_t dim, std::optional<int64_t> dim_condition = {})
      : AdaptiveNorm(dim, dim_condition.value_or(dim), false) {}
};

/// SimpleRMSNorm of each head, times 1 + gamma. x: [b, h, n, dim].
class MultiheadRMSNorm : public Norm {
 public:
  MultiheadRMSNorm(int64_t dim, int64_t heads);
  Tensor operator()(const Tensor& x, const Tensor& condition) const override;
  using Module::operator();
  std::string name() const override { return "MultiheadRMSNorm"; }
  Tensor gamma;  // [heads, 1, dim]

 private:
  double scale_;
};

/// [b, d] → [b, 1, d]; [b, n, d] stays. Throws for anything else.
Tensor condition_rows(const Tensor& condition, int64_t dim, const char* owner);

}  // namespace weft::xt
