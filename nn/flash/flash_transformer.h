// FLASHTransformer: a language model of FLASH layers (arXiv:2202.10447).
#pragma once

#include <weft/nn/flash/flash.h>
#include <weft/nn/flash/scaled_sinu_embedding.h>
#include <weft/nn/language_model.h>

namespace weft::flash {

/// Fields stand in the order in which the document writes them.
struct FLASHTransformerConfig {
  int64_t num_tokens = 0;
  int64_t dim = 0;  ///< even, for the sinusoids
  int64_t depth = 0;
  bool causal = false;
  int64_t group_size = 256;
  int64_t query_key_dim = 128;
  double expansion_factor = 2;
  std::string norm_type = "scalenorm";  ///< or "layernorm"
  bool shift_tokens = true;
  double attn_dropout = 0;
  bool laplace_attn_fn = false;
  bool reduce_group_non_causal_attn = true;
  bool padding_invariant = false;  ///< see FLASH
};
inline Fields fields(FLASHTransformerConfig& c) {
  return {{"num_tokens", &c.num_tokens},
          {"dim", &c.dim},
          {"depth", &c.depth},
          {"group_size", &c.group_size},
          {"query_key_dim", &c.query_key_dim},
          {"expansion_factor", &c.expansion_factor},
          {"causal", &c.causal},
          {"attn_dropout", &c.attn_dropout},
          {"norm_type", &c.norm_type},
          {"shift_tokens", &c.shift_tokens},
          {"laplace_attn_fn", &c.laplace_attn_fn},
          {"reduce_group_non_causal_attn", &c.reduce_group_non_causal_attn},
          {"padding_invariant", &c.padding_invariant}};
}

/// Token embedding plus scaled sinusoids, depth FLASH layers that share one rotary embedding (on at most 32 features of
/// queries and keys), and a linear layer to logits. Weights are flash-pytorch 0.1.9's. Under Autocast the stream
/// between the layers is kept in its dtype; norms and the attention still compute in float32.
class FLASHTransformer : public LanguageModel {
 public:
  explicit FLASHTransformer(const FLASHTransformerConfig& config);

  /// tokens: int64 [b, n]; mask: bool [b, n], true at real tokens, or undefined → [b, n, num_tokens].
  Tensor operator()(const Tensor& tokens, const Tensor& mask) const override;
  using Module::operator();
  int64_t num_tokens() const override { return config_.num_tokens; }
  std::string name() const override { return "FLASHTransformer"; }
  const FLASHTransformerConfig& config() const { return config_; }

 private:
  FLASHTransformerConfig config_;
  Embedding token_emb_;
  ScaledSinuEmbedding abs_pos_emb_;
  ModuleList layers_;
  Sequential to_logits_;
};

}  // namespace weft::flash
