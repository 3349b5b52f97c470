// MultiInputTransformerWrapper: several token streams side by side, embedded and summed.
#pragma once

#include <weft/nn/xt/wrapper_parts.h>

namespace weft::xt {

struct MultiInputTransformerWrapperConfig {
  NamedIntegers num_tokens = {};        ///< vocabulary sizes by name
  int64_t max_seq_len = 0;              ///< 0: no positions are added
  std::optional<int64_t> emb_dim = {};  ///< of embeddings, projected to dim where it differs
  int64_t max_mem_len = 0;
  int64_t shift_mem_down = 0;
  double emb_dropout = 0;
  bool post_emb_norm = false;
  std::optional<int64_t> num_memory_tokens = {};
  std::optional<int64_t> memory_tokens_interspersed_every = {};  ///< in front of every so many tokens; causal only
  bool return_only_embed = false;                                ///< no logits
  bool use_abs_pos_emb = true;
  bool scaled_sinu_pos_emb = false;
  double emb_frac_gradient = 1;
  double attn_z_loss_weight = 1e-4;
  std::shared_ptr<AttentionLayers> attn_layers = nullptr;
};
Fields fields(MultiInputTransformerWrapperConfig& c);  ///< all but attn_layers

using NamedInputs = std::vector<std::pair<std::string, Tensor>>;

/// x: ids [b, n] by name → logits [b, n, num_tokens] by name, in the config's order. Options as TransformerWrapper's;
/// the original's memory_tokens_interspersed_every raises a NameError.
class MultiInputTransformerWrapper : public Module {
 public:
  using Config = MultiInputTransformerWrapperConfig;
  struct Output {
    NamedInputs logits;  ///< empty with return_only_embed
    Tensor embeddings;   ///< [b, n, dim]
    Tensors mems;        ///< with return_mems
    Tensor attn_z_loss;  ///< with return_attn_z_loss
    LayerIntermediates intermediates;
  };
  explicit MultiInputTransformerWrapper(const MultiInputTransformerWrapperConfig& config);
  Output operator()(const NamedInputs& x, const Call& call = {}) const;
  std::string name() const override { return "MultiInputTransformerWrapper"; }

 private:
  MultiInputTransformerWrapperConfig config_;
  std::vector<std::shared_ptr<Embedding>> embeds_;
  std::vector<std::shared_ptr<Linear>> to_logits_;
  std::shared_ptr<PositionEmbedding> pos_emb_;
  std::shared_ptr<LayerNorm> post_emb_norm_;
  std::shared_ptr<Linear> project_emb_;
  Tensor memory_tokens_;
};

}  // namespace weft::xt
