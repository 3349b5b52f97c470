#include <weft/nn/flash/attention_fn.h>
#include <weft/nn/flash/gau.h>
#include <weft/nn/flash/masks.h>
#include <weft/nn/flash/scale_norm.h>
#include <weft/nn/linear.h>
#include <weft/ops/attention.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft::flash {
namespace {

int64_t hidden_dim(const GAUConfig& c) { return hidden_features("GAU", c.dim, c.query_key_dim, c.expansion_factor); }

}  // namespace

GAU::GAU(const GAUConfig& c)
    : config_(c),
      norm_(make_norm(c.norm_klass, c.dim)),
      to_hidden_(std::make_shared<Linear>(c.dim, 2 * hidden_dim(c)), std::make_shared<SiLU>()),
      to_qk_(std::make_shared<Linear>(c.dim, c.query_key_dim), std::make_shared<SiLU>()),
      to_out_(std::make_shared<Linear>(hidden_dim(c), c.dim), std::make_shared<Dropout>(c.dropout)),
      offsetscale_({.dim = c.query_key_dim, .heads = 2}) {
  register_module("norm", norm_);
  register_module("dropout", std::make_shared<Dropout>(c.dropout));
  register_module("attn_fn", make_attention_fn(c.laplace_attn_fn));
  if (c.rel_pos_bias) {
    rel_pos_bias_ =
        register_module("rel_pos_bias", std::make_shared<T5RelativePositionBias>(T5RelativePositionBiasConfig{
                                            .scale = std::sqrt(static_cast<double>(c.dim)), .causal = c.causal}));
  }
  register_module("to_hidden", to_hidden_);
  register_module("to_qk", to_qk_);
  register_module("offsetscale", offsetscale_);
  register_module("to_out", to_out_);
}

Tensor GAU::operator()(const Tensor& x, const Tensor& mask, const Tensor& rel_pos_bias) const {
  check_input("GAU", x, config_.dim, mask);
  const int64_t n = x.size(1);

  Tensor normed = norm_->forward(x);
  if (config_.padding_invariant && mask.defined()) normed = masked_fill(normed, logical_not(unsqueeze(mask, -1)), 0);
  const Tensors hidden = chunk(to_hidden_.at<Linear>(0)(normed), 2, -1);
  const Tensor v = silu(hidden[0]), gate = hidden[1];  // [b, n, e], the gate before its silu
  const Tensors qk = offsetscale_.heads(to_qk_.at<Linear>(0)(normed, Activation::silu));  // q, k: [b, n, s]

  Tensor q = qk[0], bias = rel_pos_bias;
  if (rel_pos_bias_) bias = bias.defined() ? bias + rel_pos_bias_->bias(n, n) : rel_pos_bias_->bias(n, n);
  double scale = 1 / static_cast<double>(n);
  if (config_.padding_invariant && mask.defined()) {
    const Tensor lengths = unsqueeze(real_lengths(mask, x.dtype()), -1);  // [b, 1, 1]
    q = q / lengths, scale = 1;
    if (bias.defined()) bias = bias / lengths;
  } else if (bias.defined()) {
    bias = bias * scale;
  }
  const Tensor attended =
      scaled_dot_product_attention(q.to(v.dtype()), qk[1].to(v.dtype()), v,
                                   {.mask = mask.defined() ? unsqueeze(mask, 1) : mask,  // [b, 1, n]
                                    .bias = bias,
                                    .causal = config_.causal,
                                    .dropout = is_training() ? config_.dropout : 0,
                                    .scale = scale,
                                    .fn = attention_fn(config_.laplace_attn_fn)});

  const auto& last = to_out_.at<Linear>(0);
  const Tensor out = to_out_.at<Dropout>(1)(swiglu_linear(attended, gate, last.weight, last.bias));
  return config_.add_residual ? out + x : out;
}

}  // namespace weft::flash
