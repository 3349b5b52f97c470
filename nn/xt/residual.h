// How a sublayer's output joins the residual stream.
#pragma once

#include <weft/nn/gru.h>

namespace weft::xt {

/// What prepare() hands on to combine().
struct Stream {
  Tensor input;     ///< of the sublayer: [b, n, d], or [views, b, n, d]
  Tensor residual;  ///< what the output joins
  Tensor beta;      ///< weights of the output in each stream (hyper-connections)
};

/// What a sublayer reads of the residual stream, and how its output joins it.
class ResidualFn : public Module {
 public:
  /// x: the stream, [b, n, d] (or [b·streams, n, d]).
  virtual Stream prepare(const Tensor& x) const { return {x, x, {}}; }
  /// out: the sublayer's, [b, n, d] → the stream, as x.
  virtual Tensor combine(const Tensor& out, const Stream& stream) const = 0;
  /// Whether combine() is out + stream.residual and nothing else.
  virtual bool is_addition() const { return false; }
};

/// out + residual · residual_scale · constant.
class Residual : public ResidualFn {
 public:
  Residual(int64_t dim, bool scale_residual = false, double scale_residual_constant = 1);
  Tensor combine(const Tensor& out, const Stream& stream) const override;
  bool is_addition() const override { return !residual_scale_.defined() && constant_ == 1; }
  std::string name() const override { return "Residual"; }

 private:
  Tensor residual_scale_;
  double constant_;
};

/// A GRU cell whose input is the output and whose state is the residual. arXiv:1910.06764, section 3.2
class GRUGating : public ResidualFn {
 public:
  explicit GRUGating(int64_t dim, bool scale_residual = false);
  Tensor combine(const Tensor& out, const Stream& stream) const override;
  std::string name() const override { return "GRUGating"; }

 private:
  std::shared_ptr<GRUCell> gru_;
  Tensor residual_scale_;
};

}  // namespace weft::xt
