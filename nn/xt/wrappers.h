// Sublayers around a sublayer, which is called fn in the state dict.
#pragma once

#include <weft/nn/linear.h>
#include <weft/nn/xt/sublayer.h>

namespace weft::xt {

class Wrapper : public Sublayer {
 public:
  explicit Wrapper(std::shared_ptr<Sublayer> fn) : fn_(register_module("fn", std::move(fn))) {}
  using Sublayer::operator();
  std::string name() const override { return "Wrapper"; }

 protected:
  std::shared_ptr<Sublayer> fn_;
};

/// fn(x) · value. Macaron layers halve their feed-forwards.
class Scale : public Wrapper {
 public:
  Scale(double value, std::shared_ptr<Sublayer> fn) : Wrapper(std::move(fn)), value_(value) {}
  Tensor operator()(const Tensor& x, const SublayerArguments& args, Intermediates* out) const override;
  std::string name() const override { return "Scale"; }

 private:
  double value_;
};

/// Cuts the features into one piece a shift from first to last and moves each that many places towards the end of the
/// text (to its start where negative), filling with zeros; features that are left over stay. Masked tokens are
/// moved as zeros. From https://github.com/BlinkDL/RWKV-LM
class ShiftTokens : public Wrapper {
 public:
  ShiftTokens(int64_t first, int64_t last, std::shared_ptr<Sublayer> fn);
  Tensor operator()(const Tensor& x, const SublayerArguments& args, Intermediates* out) const override;
  std::string name() const override { return "ShiftTokens"; }

 private:
  int64_t first_, last_;
};

/// fn(x) · gamma, one factor a feature (CaiT, arXiv:2103.17239).
class LayerScale : public Wrapper {
 public:
  LayerScale(std::shared_ptr<Sublayer> fn, int64_t dim, double init_value = 0, bool unit_offset = false);
  Tensor operator()(const Tensor& x, const SublayerArguments& args, Intermediates* out) const override;
  std::string name() const override { return "LayerScale"; }

 private:
  Tensor gamma_;
  bool unit_offset_;
};

/// fn(x) · sigmoid(to_gamma(condition)) (DiT, arXiv:2212.09748).
class AdaptiveLayerScale : public Wrapper {
 public:
  AdaptiveLayerScale(std::shared_ptr<Sublayer> fn, int64_t dim, int64_t dim_condition, double init_bias_value = -2);
  Tensor operator()(const Tensor& x, const SublayerArguments& args, Intermediates* out) const override;
  std::string name() const override { return "AdaptiveLayerScale"; }

 private:
  Linear to_gamma_;
};

}  // namespace weft::xt
