// TransformerWrapper: tokens in, logits out, AttentionLayers between.
#pragma once

#include <weft/nn/activation.h>
#include <weft/nn/language_model.h>
#include <weft/nn/xt/token_embedding.h>
#include <weft/nn/xt/wrapper_parts.h>

namespace weft::xt {

struct TransformerWrapperConfig {
  WEFT_XT_TRANSFORMER_WRAPPER_OPTIONS(WEFT_XT_OPTION, )
  std::shared_ptr<Module> token_emb = nullptr;  ///< ids → [b, n, emb_dim], in place of a TokenEmbedding
  std::shared_ptr<Module> to_logits = nullptr;  ///< [b, n, dim] → logits, in place of a linear layer
  std::shared_ptr<AttentionLayers> attn_layers = nullptr;
};
/// All but the modules.
Fields fields(TransformerWrapperConfig& c);

struct TransformerOutput {
  Tensors logits = {};          ///< one set a head, [b, n, logits_dim]; empty where there are none
  Tensor embeddings = {};       ///< what the logits are made of: [b, n, dim]
  Tensors mems = {};            ///< with return_mems
  Tensor attn_z_loss = {};      ///< with return_attn_z_loss
  Tensor logit_entropies = {};  ///< with return_logit_entropies: [b, n]
  LayerIntermediates intermediates = {};
};

/// A model of token sequences; x-transformers' numbers and names. What the original refuses or gets wrong and this
/// does: caches with memory tokens and with masks; masks beside interspersed memory tokens; seq_start_pos beside memory
/// tokens; pos reaches rotary and ALiBi layers (there it is dropped on the way). Under Autocast the stream between the
/// layers is kept in its dtype; norms, softmax and losses still compute in float32.
class TransformerWrapper : public LanguageModel {
 public:
  using Config = TransformerWrapperConfig;
  explicit TransformerWrapper(const TransformerWrapperConfig& config);

  /// tokens: int64 [b, n] → logits [b, n, num_tokens]; with return_embeddings [b, n, dim].
  Tensor operator()(const Tensor& tokens, const Call& call) const;
  Tensor operator()(const Tensor& tokens, const Tensor& mask) const override {
    return (*this)(tokens, Call{.mask = mask});
  }
  using LanguageModel::operator();
  /// Everything that a call can give.
  TransformerOutput run(const Tensor& tokens, const Call& call = {}) const;

  int64_t num_tokens() const override { return config_.num_tokens; }
  int64_t max_seq_len() const { return config_.max_seq_len; }
  int64_t emb_dim() const { return emb_dim_; }
  std::string name() const override { return "TransformerWrapper"; }
  const TransformerWrapperConfig& config() const { return config_; }
  const AttentionLayers& attn_layers() const { return *config_.attn_layers; }
  std::shared_ptr<Module> token_emb() const { return token_emb_; }
  /// Whether what comes out are log-probabilities already.
  bool output_is_log_prob() const { return config_.mixture_of_softmax; }
  /// Where logits are embeddings · weightᵀ and nothing else, that weight [logits_dim, dim]; else undefined.
  Tensor logits_weight() const;
  /// Whether calls may be given a Cache.
  bool can_cache_kv() const;
  /// Whether positions beyond max_seq_len exist.
  bool can_cache_kv_outside_max_seq_len() const { return pos_emb_ == nullptr; }

 private:
  int64_t memory_tokens() const { return config_.num_memory_tokens.value_or(0); }
  Tensor embed(const Tensor& tokens, Call& call) const;
  Tensor through_layers(Tensor x, Call& call, LayerIntermediates& kept) const;
  Tensor recycled(const Tensor& x, const Call& call, LayerIntermediates& kept) const;
  Tensors make_logits(const Tensor& x, const Tensor& mixture) const;

  TransformerWrapperConfig config_;
  int64_t emb_dim_;
  std::shared_ptr<Module> token_emb_;
  std::shared_ptr<PositionEmbedding> pos_emb_;
  std::vector<std::pair<std::string, std::shared_ptr<Embedding>>> embeds_;
  std::shared_ptr<LayerNorm> post_emb_norm_;
  std::shared_ptr<Linear> project_emb_, recycled_proj_, to_mixture_, combine_mixture_;
  std::vector<std::shared_ptr<Module>> to_logits_;
  Tensor cls_token_, memory_tokens_;
};

/// -Σ p log p of softmax(logits), over the last dimension.
Tensor calc_entropy(const Tensor& logits);

}  // namespace weft::xt
