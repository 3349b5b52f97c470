// xVal: one token stands for every number, and the number scales its embedding (arXiv:2310.02989).
#pragma once

#include <weft/nn/xt/autoregressive_wrapper.h>

namespace weft::xt {

struct XValTransformerWrapperConfig {
  WEFT_XT_XVAL_OPTIONS(WEFT_XT_OPTION, )
  std::shared_ptr<AttentionLayers> attn_layers = nullptr;
};
Fields fields(XValTransformerWrapperConfig& c);  ///< all but attn_layers

/// Tokens x, int64 [b, n], and numbers x_num [b, n], which count where x is numerical_token_id. The original has
/// no projection, so that its emb_dim can only be dim, and raises a NameError for memory tokens.
class XValTransformerWrapper : public Module {
 public:
  using Config = XValTransformerWrapperConfig;
  struct Output {
    Tensor logits;          ///< [b, n, logits_dim]
    Tensor numerical_pred;  ///< [b, n]
    Tensor embeddings;      ///< [b, n, dim]
    Tensors mems;           ///< with return_mems
    LayerIntermediates intermediates;
  };
  explicit XValTransformerWrapper(const XValTransformerWrapperConfig& config);
  Output operator()(const Tensor& x, const Tensor& x_num, const Call& call = {}) const;
  std::string name() const override { return "XValTransformerWrapper"; }
  const XValTransformerWrapperConfig& config() const { return config_; }

 private:
  XValTransformerWrapperConfig config_;
  std::shared_ptr<TokenEmbedding> token_emb_;
  std::shared_ptr<PositionEmbedding> pos_emb_;
  std::shared_ptr<Linear> project_emb_, to_logits_, to_numerical_output_;
  Tensor memory_tokens_;
};

struct XValAutoregressiveWrapperConfig {
  std::shared_ptr<XValTransformerWrapper> net;
  int64_t ignore_index = -100;
  double numerical_loss_weight = 1;
};
Fields fields(XValAutoregressiveWrapperConfig& c);  ///< all but net

/// Cross entropy of the next token, plus the squared error of its number where it is one.
class XValAutoregressiveWrapper : public Module {
 public:
  using Config = XValAutoregressiveWrapperConfig;
  struct Loss {
    Tensor loss;                                    ///< a scalar
    Tensor cross_entropy_loss, numerical_mse_loss;  ///< [b, n]
  };
  struct Generated {
    Tensor sampled_token_ids, sampled_numbers, is_number_mask;  ///< [b, seq_len]; a number is NaN where there is none
  };
  explicit XValAutoregressiveWrapper(const XValAutoregressiveWrapperConfig& config);
  explicit XValAutoregressiveWrapper(std::shared_ptr<XValTransformerWrapper> net)
      : XValAutoregressiveWrapper(XValAutoregressiveWrapperConfig{.net = std::move(net)}) {}
  /// x: int64 [b, n + 1], x_num: [b, n + 1] → a scalar. call.mask: [b, n] or [b, n + 1]
  Tensor operator()(const Tensor& x, const Tensor& x_num, const Call& call = {}) const {
    return loss(x, x_num, call).loss;
  }
  Loss loss(const Tensor& x, const Tensor& x_num, const Call& call = {}) const;
  /// Of the options, temperature, filter_logits_fn, generator and call count.
  Generated generate(const Tensor& start_tokens, const Tensor& start_numbers, int64_t seq_len,
                     const GenerateOptions& options = {});
  std::string name() const override { return "XValAutoregressiveWrapper"; }

 private:
  XValAutoregressiveWrapperConfig config_;
};

}  // namespace weft::xt
