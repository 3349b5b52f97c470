// MultiInputTransformerWrapper: several token streams side by side, embedded and summed.
#pragma once

#include <weft/nn/xt/wrapper_parts.h>

namespace weft::xt {

struct MultiInputTransformerWrapperConfig {
  WEFT_XT_MULTI_INPUT_OPTIONS(WEFT_XT_OPTION, )
  std::shared_ptr<AttentionLayers> attn_layers = nullptr;
};
Fields fields(MultiInputTransformerWrapperConfig& c);  ///< all but attn_layers

using NamedInputs = std::vector<std::pair<std::string, Tensor>>;

/// x: ids [b, n] by name → logits [b, n, num_tokens] by name, in the config's order. Options as TransformerWrapper's;
/// the original's memory_tokens_interspersed_every raises a NameError, and its num_memory_tokens beside prepend_embeds
/// cuts the last tokens' logits off.
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
