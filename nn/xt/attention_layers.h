// AttentionLayers: a residual stream and a list of sublayers that read it and add to it.
#pragma once

#include <weft/nn/xt/attention.h>
#include <weft/nn/xt/call.h>
#include <weft/nn/xt/feed_forward.h>
#include <weft/nn/xt/layer_order.h>
#include <weft/nn/xt/norm.h>
#include <weft/nn/xt/position_bias.h>
#include <weft/nn/xt/residual.h>
#include <weft/nn/xt/rotary_embedding.h>

namespace weft::xt {

struct AttentionLayersConfig {
  int64_t dim = 0;
  std::optional<int64_t> depth = {};  ///< blocks; may be left out with custom_layers
  int64_t heads = 8;
  WEFT_XT_LAYERS_OPTIONS(WEFT_XT_OPTION, WEFT_XT_OVERRIDE, )
  bool causal = false;                               ///< of AttentionLayers alone; Encoder, Decoder, ... know theirs
  AttentionWeightsFn attn_custom_attn_fn = nullptr;  ///< in place of the softmax of every attention
  AttentionWeightsFn cross_attn_custom_attn_fn = nullptr;
  HybridModuleFn attn_hybrid_module = nullptr;  ///< makes a module that runs beside each attention (a GRU, say)
  HybridModuleFn cross_attn_hybrid_module = nullptr;
};
/// All but the last four, which are functions.
Fields fields(AttentionLayersConfig& c);

/// x [b, n, dim] → the same. Each sublayer is (options.h says which parts there are)
///
///   x ← post_main_norm(residual(post_branch_norm(sublayer(pre_norm(x))), x))
///
/// The state dict numbers them: layers.i.0 are the norms, layers.i.1 the sublayer, layers.i.2 the residual's weights.
///
/// Of x-transformers 2.0.4, whose weights it loads, with these differences:
/// - masks, biases and left padding work with flash attention and with a cache; a T5 or dynamic bias too;
/// - a query that may see nothing gets 0 from attention;
/// - seq_start_pos also keeps shift_tokens from reading padding;
/// - memories stay visible beside self_attn_kv_mask;
/// - dynamic_pos_bias works with memories and caches;
/// - head counts, gates and value residuals combine freely: a learned value residual mix has one share a key-value
/// head;
/// - attention options that need causal attention or positions (use_cope, selective, data_dependent_alibi) are not
///   passed on to cross-attention;
/// - resi_dual, which the README of that version still lists, exists.
class AttentionLayers : public Module {
 public:
  using Config = AttentionLayersConfig;
  explicit AttentionLayers(const AttentionLayersConfig& config);

  Tensor forward(const Tensor& x) const override { return (*this)(x, Call{}); }
  /// The second part of Call is not looked at. kept may be null.
  Tensor operator()(const Tensor& x, const Call& call, LayerIntermediates* kept = nullptr) const;
  using Module::operator();
  std::string name() const override { return "AttentionLayers"; }

  const AttentionLayersConfig& config() const { return config_; }
  int64_t dim() const { return config_.dim; }
  bool causal() const { return config_.causal; }
  /// Whether calls may be given a Cache.
  bool can_cache_kv() const { return why_no_cache().empty(); }
  bool disable_abs_pos_emb() const;
  int64_t num_attn_layers() const { return num_attn_layers_; }

 protected:
  /// What keeps a cache from being used; empty where nothing does.
  virtual std::string why_no_cache() const;
  /// attn_mask for this call; PrefixDecoder makes it.
  virtual Tensor attention_mask(const Tensor&, const Call& call) const { return call.attn_mask; }

 private:
  class Layer;
  class Pass;
  std::shared_ptr<Sublayer> make_sublayer(char type, bool first_attention, int64_t index) const;
  std::shared_ptr<ResidualFn> make_residual(char type, int64_t index) const;
  std::shared_ptr<PositionBias> make_position_bias() const;
  std::shared_ptr<Norm> make_norm() const;
  bool needs_condition() const;
  int64_t condition_features() const;

  AttentionLayersConfig config_;
  LayerOrder order_;
  int64_t num_attn_layers_ = 0;
  std::vector<std::shared_ptr<Layer>> layers_;
  std::vector<std::shared_ptr<Linear>> skip_combines_;  // by sublayer; null where there is none
  std::vector<int64_t> skip_from_;
  std::shared_ptr<RotaryEmbedding> rotary_pos_emb_;
  std::shared_ptr<PositionBias> rel_pos_;
  std::shared_ptr<Norm> final_norm_;
  std::shared_ptr<Linear> adaptive_mlp_, reinject_input_proj_, learned_reinject_input_gate_;
  Tensor stream_emb_;  // [streams, dim]
};

/// Everyone sees everyone.
class Encoder : public AttentionLayers {
 public:
  explicit Encoder(const AttentionLayersConfig& config);
  std::string name() const override { return "Encoder"; }
};

/// A token sees those before it.
class Decoder : public AttentionLayers {
 public:
  explicit Decoder(const AttentionLayersConfig& config);
  std::string name() const override { return "Decoder"; }
};

/// A token sees those before it, and all of the first prefix_attn_len. With a cache these come with the first call.
class PrefixDecoder : public AttentionLayers {
 public:
  explicit PrefixDecoder(const AttentionLayersConfig& config);
  std::string name() const override { return "PrefixDecoder"; }

 protected:
  std::string why_no_cache() const override;
  Tensor attention_mask(const Tensor& x, const Call& call) const override;
};

/// Cross-attention and feed-forwards only.
class CrossAttender : public AttentionLayers {
 public:
  explicit CrossAttender(const AttentionLayersConfig& config);
  std::string name() const override { return "CrossAttender"; }
};

/// make<Decoder>({.dim = 512, .depth = 6}): a module for another's config.
template <class M>
std::shared_ptr<M> make(const typename M::Config& config) {
  return std::make_shared<M>(config);
}

}  // namespace weft::xt
