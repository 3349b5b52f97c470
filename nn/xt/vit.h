// ViTransformerWrapper: images in, classes out.
#pragma once

#include <weft/nn/container.h>
#include <weft/nn/xt/attention_layers.h>

namespace weft::xt {

struct ViTransformerWrapperConfig {
  WEFT_XT_VIT_OPTIONS(WEFT_XT_OPTION, )
  std::shared_ptr<AttentionLayers> attn_layers = nullptr;
};
Fields fields(ViTransformerWrapperConfig& c);  ///< all but attn_layers

/// A vision transformer with mean pooling. arXiv:2205.01580
class ViTransformerWrapper : public Module {
 public:
  using Config = ViTransformerWrapperConfig;
  struct Call {
    bool return_embeddings = false;
  };
  struct Output {
    Tensor logits, embeddings;
  };
  explicit ViTransformerWrapper(const ViTransformerWrapperConfig& config);

  /// img: [b, channels, height, width], of at most image_size² pixels → [b, num_classes]; with return_embeddings
  /// [b, patches, dim].
  Tensor operator()(const Tensor& img, const Call& call) const;
  Tensor forward(const Tensor& img) const override { return run(img).logits; }
  using Module::operator();
  Output run(const Tensor& img) const;
  std::string name() const override { return "ViTransformerWrapper"; }

 private:
  Tensor embed(const Tensor& img) const;
  ViTransformerWrapperConfig config_;
  Tensor pos_embedding_, register_tokens_;
  Sequential patch_to_embedding_;
  std::shared_ptr<LayerNorm> post_emb_norm_;
  std::shared_ptr<Linear> mlp_head_;
};

}  // namespace weft::xt
