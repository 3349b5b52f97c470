// Attention: projections around Attend, and everything that acts on queries, keys, values or the output.
#pragma once

#include <weft/nn/linear.h>
#include <weft/nn/xt/attend.h>
#include <weft/nn/xt/data_dependent_alibi.h>
#include <weft/nn/xt/fold_axially.h>
#include <weft/nn/xt/norm.h>

namespace weft::xt {

/// Makes the module that runs beside one attention: [b, n, dim] → [b, n, heads · value_dim_head].
using HybridModuleFn = std::function<std::shared_ptr<Module>()>;

struct AttentionConfig {
  int64_t dim = 0;
  int64_t heads = 8;
  bool causal = false;
  WEFT_XT_ATTENTION_OPTIONS(WEFT_XT_OPTION, )
  std::optional<int64_t> rotate_num_heads = {};  ///< only the last heads turn
  bool learned_value_residual_mix = false;
  bool qkv_receive_diff_residuals = false;
  AttentionWeightsFn custom_attn_fn = nullptr;  ///< in place of the softmax
  HybridModuleFn hybrid_module = nullptr;       ///< runs beside it (a GRU, say), and is mixed with its heads
};
/// All but custom_attn_fn and hybrid_module, which are functions.
Fields fields(AttentionConfig& c);

/// Multi-head attention over x itself or over a context. options.h lists what may be switched on; the order is
///
///   project → mix in first values → normalise q, k → rotate → learned keys and values → [cache] → masks and biases
///   → Attend → scale and gate heads → mix with the hybrid module's → gate features → project
///
/// A hybrid module's output is split into heads, and both are brought to one length before they are mixed (Hymba,
/// arXiv:2411.13676): y ← norm(y) + s (norm'(hybrid) - norm(y)), s = 1/2 or sigmoid(hybrid_mix x), one a head and
/// token.
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
  Projected project(const Tensor& x, const SublayerArguments& args) const;
  void rotate(Projected& p, const SublayerArguments& args) const;
  void put_learned_keys(Projected& p) const;
  Tensor combined_mask(const SublayerArguments& args, int64_t n, int64_t m) const;
  Tensor combined_bias(const Tensor& x, const SublayerArguments& args, int64_t m, bool slopes) const;
  Tensor mixed_with_hybrid(const Tensor& y, const Tensor& x, const Tensor& mask) const;

  AttentionConfig config_;
  int64_t kv_heads_;
  std::shared_ptr<Linear> to_latent_q_, to_latent_kv_, to_rotateable_k_, to_q_, to_k_, to_v_, to_v_gate_,
      to_v_head_gate_, to_value_residual_mix_, to_out_;
  Tensor qk_norm_q_scale_, qk_norm_k_scale_, mem_k_, mem_v_, head_scale_params_;
  std::shared_ptr<ForgetGates> forget_gates_;
  std::shared_ptr<FoldAxially> hybrid_module_;
  std::shared_ptr<MultiheadRMSNorm> norm_, hybrid_norm_;
  std::shared_ptr<Linear> hybrid_mix_;
  std::shared_ptr<Attend> attend_;
};

}  // namespace weft::xt
