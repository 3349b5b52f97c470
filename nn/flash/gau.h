// Gated attention unit (Hua et al., "Transformer quality in linear time", arXiv:2202.10447).
#pragma once

#include <weft/nn/activation.h>
#include <weft/nn/config.h>
#include <weft/nn/container.h>
#include <weft/nn/flash/offset_scale.h>
#include <weft/nn/flash/t5_relative_position_bias.h>

namespace weft::flash {

/// Fields stand in the order in which the document writes them.
struct GAUConfig {
  int64_t dim = 0;
  int64_t query_key_dim = 128;
  bool causal = false;
  double expansion_factor = 2;   ///< hidden features = int(expansion_factor · dim)
  bool laplace_attn_fn = false;  ///< LaplacianAttnFn in place of ReLUSquared
  bool add_residual = true;
  double dropout = 0;
  bool rel_pos_bias = true;              ///< add a learned T5RelativePositionBias to the scores
  std::string norm_klass = "LayerNorm";  ///< LayerNorm, ScaleNorm, RMSNorm or Identity
  bool padding_invariant = false;        ///< divide scores by the row's real length, not by the padded one
};
inline Fields fields(GAUConfig& c) {
  return {{"dim", &c.dim},
          {"query_key_dim", &c.query_key_dim},
          {"expansion_factor", &c.expansion_factor},
          {"add_residual", &c.add_residual},
          {"causal", &c.causal},
          {"dropout", &c.dropout},
          {"laplace_attn_fn", &c.laplace_attn_fn},
          {"rel_pos_bias", &c.rel_pos_bias},
          {"norm_klass", &c.norm_klass},
          {"padding_invariant", &c.padding_invariant}};
}

/// One attention head with a gate instead of a feed-forward:
///
///   out = to_out(gate ∘ (f((q·kᵀ + bias) / n) · v)) + x
///
/// where v, gate and the base of q and k are projections of norm(x), and f works on each score alone.
///
/// Like flash-pytorch 0.1.9, whose weights it loads, except that rel_pos_bias = false is honoured (there the bias is
/// always on, which is the default here), and that padding_invariant exists: n is the padded length by default, there
/// and here, so that the same text with more padding gives other numbers.
class GAU : public Module {
 public:
  explicit GAU(const GAUConfig& config);

  /// x: [b, n, dim] → the same.
  Tensor forward(const Tensor& x) const override { return (*this)(x, {}); }
  /// mask: [b, n], true at real tokens; rel_pos_bias: added to the scores, broadcasts to [b, n, n]. Either may be
  /// undefined.
  Tensor operator()(const Tensor& x, const Tensor& mask, const Tensor& rel_pos_bias = {}) const;
  using Module::operator();
  std::string name() const override { return "GAU"; }
  const GAUConfig& config() const { return config_; }

 private:
  GAUConfig config_;
  std::shared_ptr<Module> norm_;
  std::shared_ptr<T5RelativePositionBias> rel_pos_bias_;
  Sequential to_hidden_, to_qk_, to_out_;
  OffsetScale offsetscale_;
};

}  // namespace weft::flash
