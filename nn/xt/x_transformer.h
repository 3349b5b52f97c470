// XTransformer: an encoder and a decoder that attends to it.
#pragma once

#include <weft/nn/xt/autoregressive_wrapper.h>

namespace weft::xt {

struct XTransformerConfig {
  int64_t dim = 0;
  int64_t enc_num_tokens = 0;
  std::optional<int64_t> enc_depth = {};
  int64_t enc_heads = 8;
  int64_t enc_max_seq_len = 0;
  int64_t dec_num_tokens = 0;
  std::optional<int64_t> dec_depth = {};
  int64_t dec_heads = 8;
  int64_t dec_max_seq_len = 0;
  bool tie_token_emb = false;  ///< one embedding for both
  int64_t ignore_index = -100;
  int64_t pad_value = 0;
  double cross_attn_tokens_dropout = 0;  ///< share of the encodings left out in training (arXiv:2202.07765)
  double enc_emb_dropout = 0;
  std::optional<int64_t> enc_num_memory_tokens = {};
  bool enc_scaled_sinu_pos_emb = false;
  bool enc_use_abs_pos_emb = true;
  double dec_emb_dropout = 0;
  bool dec_scaled_sinu_pos_emb = false;
  bool dec_use_abs_pos_emb = true;
  WEFT_XT_LAYERS_OPTIONS(WEFT_XT_OPTION, WEFT_XT_OVERRIDE, enc_)
  WEFT_XT_LAYERS_OPTIONS(WEFT_XT_OPTION, WEFT_XT_OVERRIDE, dec_)
  AttentionWeightsFn enc_attn_custom_attn_fn = nullptr;  ///< as AttentionLayersConfig's
  HybridModuleFn enc_attn_hybrid_module = nullptr;
  AttentionWeightsFn dec_attn_custom_attn_fn = nullptr, dec_cross_attn_custom_attn_fn = nullptr;
  HybridModuleFn dec_attn_hybrid_module = nullptr, dec_cross_attn_hybrid_module = nullptr;
};
/// All but the functions.
Fields fields(XTransformerConfig& c);

/// TransformerWrapper over an Encoder, and an AutoregressiveWrapper around one over a cross-attending Decoder.
class XTransformer : public Module {
 public:
  using Config = XTransformerConfig;
  struct Call {
    Tensor mask = {};                ///< bool [b, n], true at real tokens of src
    Tensor attn_mask = {};           ///< of the encoder's self-attention
    Tensor src_prepend_embeds = {};  ///< [b, p, dim] before the source's embeddings (PaLI, arXiv:2209.06794)
  };
  explicit XTransformer(const XTransformerConfig& config);

  /// src: int64 [b, n], tgt: int64 [b, m + 1] → the mean cross entropy of tgt's tokens given those before and src.
  Tensor operator()(const Tensor& src, const Tensor& tgt, const Call& call) const;
  Tensor operator()(const Tensor& src, const Tensor& tgt) const { return (*this)(src, tgt, Call{}); }
  using Module::operator();

  /// Up to seq_len tokens after seq_out_start, given seq_in. options.call's context is made here.
  Tensor generate(const Tensor& seq_in, const Tensor& seq_out_start, int64_t seq_len, const Call& call,
                  const GenerateOptions& options = {});
  Tensor generate(const Tensor& seq_in, const Tensor& seq_out_start, int64_t seq_len) {
    return generate(seq_in, seq_out_start, seq_len, Call{});
  }
  /// The likeliest outputs of up to seq_len tokens.
  Beams beam_search(const Tensor& seq_in, const Tensor& seq_out_start, int64_t seq_len, const Call& call,
                    const BeamSearchOptions& options = {});
  std::string name() const override { return "XTransformer"; }
  TransformerWrapper& encoder() const { return *encoder_; }
  AutoregressiveWrapper& decoder() const { return *decoder_; }

 private:
  struct Encoded {
    Tensor states, mask;
  };
  Encoded encode(const Tensor& src, const Call& call) const;

  XTransformerConfig config_;
  std::shared_ptr<TransformerWrapper> encoder_;
  std::shared_ptr<AutoregressiveWrapper> decoder_;
};

}  // namespace weft::xt
