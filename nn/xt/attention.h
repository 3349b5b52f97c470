// Attention: projections around Attend, and everything that acts on queries, keys, values or the output.
#pragma once

#include <weft/nn/linear.h>
#include <weft/nn/xt/attend.h>
#include <weft/nn/xt/data_dependent_alibi.h>

namespace weft::xt {

struct AttentionConfig {
  int64_t dim = 0;
  int64_t heads = 8;
  bool causal = false;
  WEFT_XT_ATTENTION_OPTIONS(WEFT_XT_OPTION, )
  std::optional<int64_t> rotate_num_heads = {};  ///< only the last heads turn
  bool learned_value_residual_mix = false;
  bool qkv_receive_diff_residuals = false;
  AttentionWeightsFn custom_attn_fn = nullptr;  ///< in place of the softmax
};
/// All but custom_attn_fn, which is a function.
Fields fields(AttentionConfig& c);

/// Multi-head attention over x itself or over a context. options.h lists what may be switched on; the order is
///
///   project → mix in first values → normalise q, k → rotate → [cache] → learned keys and values → masks and biases
///   → Attend → scale and gate heads → gate features → project
class Attention : public Sublayer {
 public:
  using Config = AttentionConfig;
  explicit Attention(const AttentionConfig& config);
  Tensor operator()(const Tensor& x, const SublayerArguments& args, Intermediates* out) const override;
  using Sublayer::operator();
  std::string name() const override { return "Attention"; }
  const AttentionConfig& config() const { return config_; }
  Attend& attend() { return *attend_; }

 private:
  struct Projected {
    Tensor q, k, v;     // [b, h, n, d], [b, kv_h, m, d], [b, kv_h, m, e]
    Tensor original_v;  // before anything was mixed in
  };
  bool projects_at_once(const Tensor& x, const SublayerArguments& args) const;
  Projected project(const Tensor& x, const SublayerArguments& args) const;
  void rotate(Projected& p, const SublayerArguments& args) const;
  Tensor combined_mask(const SublayerArguments& args, int64_t n, int64_t m) const;
  Tensor combined_bias(const Tensor& x, const SublayerArguments& args, int64_t m) const;

  AttentionConfig config_;
  int64_t kv_heads_;
  std::shared_ptr<Linear> to_latent_q_, to_latent_kv_, to_rotateable_k_, to_q_, to_k_, to_v_, to_v_gate_,
      to_v_head_gate_, to_value_residual_mix_, to_out_;
  Tensor qk_norm_q_scale_, qk_norm_k_scale_, mem_k_, mem_v_, head_scale_params_;
  std::shared_ptr<ForgetGates> forget_gates_;
  std::shared_ptr<Attend> attend_;
};

}  // namespace weft::xt
