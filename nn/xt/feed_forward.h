// FeedForward: two linear layers on each token.
#pragma once

#include <weft/nn/activation.h>
#include <weft/nn/linear.h>
#include <weft/nn/xt/norm.h>
#include <weft/nn/xt/options.h>
#include <weft/nn/xt/sublayer.h>

namespace weft::xt {

struct FeedForwardConfig {
  int64_t dim = 0;
  WEFT_XT_FEED_FORWARD_OPTIONS(WEFT_XT_OPTION, )
};
Fields fields(FeedForwardConfig& c);

/// (x W) f(x V) with one projection to both, times a learned factor if mult_bias. arXiv:2002.05202
class GLU : public Module {
 public:
  GLU(int64_t dim_in, int64_t dim_out, Activation activation, bool relu_squared, bool mult_bias);
  Tensor forward(const Tensor& x) const override;
  std::string name() const override { return "GLU"; }

 private:
  Activation activation_;
  bool relu_squared_;
  Linear proj_;
  Tensor mult_bias_;
};

/// out = norm(f(x W)) V, f = gelu, silu or max(x, 0)², or a GLU in place of f(x W).
class FeedForward : public Sublayer {
 public:
  using Config = FeedForwardConfig;
  explicit FeedForward(const FeedForwardConfig& config);
  Tensor forward(const Tensor& x) const override;
  Tensor operator()(const Tensor& x, const SublayerArguments&, Intermediates*) const override { return forward(x); }
  using Module::operator();
  std::string name() const override { return "FeedForward"; }

 private:
  FeedForwardConfig config_;
  std::shared_ptr<GLU> glu_;
  std::shared_ptr<Linear> in_, out_;
  std::shared_ptr<LayerNorm> norm_;
  std::shared_ptr<Dropout> dropout_;
};

}  // namespace weft::xt
