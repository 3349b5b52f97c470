// Sequences of vectors in place of tokens.
#pragma once

#include <weft/nn/xt/wrapper_parts.h>

namespace weft::xt {

struct ContinuousTransformerWrapperConfig {
  WEFT_XT_CONTINUOUS_OPTIONS(WEFT_XT_OPTION, )
  std::shared_ptr<AttentionLayers> attn_layers = nullptr;
};
Fields fields(ContinuousTransformerWrapperConfig& c);  ///< all but attn_layers

/// As TransformerWrapper, from x [b, n, dim_in] to [b, n, dim_out]. Unlike in the original, average_pool_embed keeps
/// the features (there it averages them away where a mask is given, and fails where none is), and prepended embeddings
/// may stand beside memory tokens.
class ContinuousTransformerWrapper : public Module {
 public:
  using Config = ContinuousTransformerWrapperConfig;
  struct Output {
    Tensor out;    ///< projected, or with return_embeddings the layers' output
    Tensors mems;  ///< with return_mems
    LayerIntermediates intermediates;
  };
  explicit ContinuousTransformerWrapper(const ContinuousTransformerWrapperConfig& config);
  Tensor forward(const Tensor& x) const override { return run(x).out; }
  Tensor operator()(const Tensor& x, const Call& call) const { return run(x, call).out; }
  using Module::operator();
  Output run(const Tensor& x, const Call& call = {}) const;
  std::string name() const override { return "ContinuousTransformerWrapper"; }
  int64_t max_seq_len() const { return config_.max_seq_len; }
  const ContinuousTransformerWrapperConfig& config() const { return config_; }

 private:
  ContinuousTransformerWrapperConfig config_;
  std::shared_ptr<PositionEmbedding> pos_emb_;
  std::shared_ptr<LayerNorm> post_emb_norm_;
  std::shared_ptr<Linear> project_in_, project_out_;
  Tensor memory_tokens_;
};

/// Elementwise loss: (prediction, target) → the same shape.
using ElementwiseLoss = std::function<Tensor(const Tensor& prediction, const Tensor& target)>;

struct ContinuousAutoregressiveWrapperConfig {
  std::shared_ptr<ContinuousTransformerWrapper> net;
  ElementwiseLoss loss_fn = nullptr;     ///< squared difference unless given
  bool equal_loss_weight_batch = false;  ///< with a mask: every sequence counts the same, not every place
};
Fields fields(ContinuousAutoregressiveWrapperConfig& c);  ///< equal_loss_weight_batch

/// Predicts the next vector.
class ContinuousAutoregressiveWrapper : public Module {
 public:
  using Config = ContinuousAutoregressiveWrapperConfig;
  explicit ContinuousAutoregressiveWrapper(const ContinuousAutoregressiveWrapperConfig& config);
  explicit ContinuousAutoregressiveWrapper(std::shared_ptr<ContinuousTransformerWrapper> net)
      : ContinuousAutoregressiveWrapper(ContinuousAutoregressiveWrapperConfig{.net = std::move(net)}) {}
  /// x: [b, n + 1, dim] → the mean loss of each vector given those before it; mask: bool [b, n] or [b, n + 1].
  Tensor forward(const Tensor& x) const override { return (*this)(x, Call{}); }
  Tensor operator()(const Tensor& x, const Call& call) const;
  using Module::operator();
  /// seq_len vectors after start [b, t, dim] (or [t, dim]): [b, seq_len, dim] (or [seq_len, dim]).
  Tensor generate(const Tensor& start, int64_t seq_len, const Call& call = {});
  std::string name() const override { return "ContinuousAutoregressiveWrapper"; }

 private:
  ContinuousAutoregressiveWrapperConfig config_;
};

}  // namespace weft::xt
