// FLASH: quadratic attention within groups, linear attention between them (arXiv:2202.10447, section 3).
#pragma once

#include <weft/nn/activation.h>
#include <weft/nn/config.h>
#include <weft/nn/container.h>
#include <weft/nn/flash/offset_scale.h>
#include <weft/nn/flash/rotary_embedding.h>
#include <weft/nn/flash/t5_relative_position_bias.h>
#include <weft/nn/linear.h>
#include <weft/nn/norm.h>

namespace weft::flash {

/// Fields stand in the order in which the document writes them.
struct FLASHConfig {
  int64_t dim = 0;
  int64_t group_size = 256;
  bool causal = false;
  int64_t query_key_dim = 128;
  double expansion_factor = 2;   ///< hidden features = int(expansion_factor · dim)
  bool laplace_attn_fn = false;  ///< LaplacianAttnFn in place of ReLUSquared
  double dropout = 0;
  std::shared_ptr<RotaryEmbedding> rotary_pos_emb = nullptr;  ///< turns queries and keys; layers may share one
  std::string norm_klass = "LayerNorm";                       ///< LayerNorm, ScaleNorm, RMSNorm or Identity
  bool shift_tokens = false;                                  ///< shift_tokens after the norm
  bool reduce_group_non_causal_attn =
      true;                        ///< without causal: linear attention over the whole text, else within groups
  bool padding_invariant = false;  ///< see FLASH
};
/// All but rotary_pos_emb, which is a module.
inline Fields fields(FLASHConfig& c) {
  return {{"dim", &c.dim},
          {"group_size", &c.group_size},
          {"query_key_dim", &c.query_key_dim},
          {"expansion_factor", &c.expansion_factor},
          {"causal", &c.causal},
          {"dropout", &c.dropout},
          {"norm_klass", &c.norm_klass},
          {"shift_tokens", &c.shift_tokens},
          {"laplace_attn_fn", &c.laplace_attn_fn},
          {"reduce_group_non_causal_attn", &c.reduce_group_non_causal_attn},
          {"padding_invariant", &c.padding_invariant}};
}

/// What depends on places in the text alone, the same for all layers of a model that have one rotary embedding.
struct Places {
  Tensor angles;   ///< of queries and keys, [n, features that turn / 2]; undefined where none turn
  Tensor buckets;  ///< of the distances within a group
};

/// A gated attention unit whose cost grows with n, not n²:
///
///   out = to_out(gate ∘ (quadratic + linear)) + x
///   quadratic = f(q₁·k₁ᵀ / g + bias) · v         within each group of g tokens
///   linear    = q₂ · Σ k₂ᵀ·v / g                 the sum over all groups before this one (causal)
///   linear    = q₂ · Σ k₂ᵀ·v / n                 over the whole text (or within the group)
///
/// Like flash-pytorch 0.1.9, whose weights it loads. A text that is no multiple of g long is not padded here; the
/// result is the same. By default, as there, n of the non-causal form is the padded length and a token that follows
/// padding is shifted a padded token's features; with padding_invariant, n is the row's real length and such a token
/// gets zeros.
class FLASH : public Module {
 public:
  explicit FLASH(const FLASHConfig& config);

  /// x: [b, n, dim] → the same.
  Tensor forward(const Tensor& x) const override { return (*this)(x, {}); }
  /// mask: [b, n], true at real tokens, or undefined.
  Tensor operator()(const Tensor& x, const Tensor& mask) const;
  /// The same between other layers, on [b, n, dim]: the addition before it joins its norm, its own is left to the next
  /// layer.
  ResidualStream operator()(const ResidualStream& stream, const Tensor& mask, const Places& places) const;
  /// Of a text of n tokens.
  Places places(int64_t n) const;
  using Module::operator();
  std::string name() const override { return "FLASH"; }
  const FLASHConfig& config() const { return config_; }

 private:
  Tensor quadratic(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Places& places) const;
  Tensor add_linear(const Tensor& attended, const Tensor& q, const Tensor& k, const Tensor& v,
                    const Tensor& mask) const;

  FLASHConfig config_;
  std::shared_ptr<Norm> norm_;
  T5RelativePositionBias rel_pos_bias_;
  Sequential to_hidden_, to_qk_;
  OffsetScale qk_offset_scale_;
  Linear to_out_;
};

}  // namespace weft::flash
