#include <weft/autograd/autograd.h>
#include <weft/nn/eval_mode.h>
#include <weft/nn/xt/dropout_tokens.h>
#include <weft/nn/xt/x_transformer.h>
#include <weft/ops/shape.h>

namespace weft::xt {
namespace {

AttentionLayersConfig encoder_layers(const XTransformerConfig& c) {
  AttentionLayersConfig layers{.dim = c.dim, .depth = c.enc_depth, .heads = c.enc_heads};
#define WEFT_XT_TAKE(P, TYPE, NAME, DEFAULT, DOC, FILE) layers.P##NAME = c.enc_##P##NAME;
  WEFT_XT_LAYERS_OPTIONS(WEFT_XT_TAKE, WEFT_XT_TAKE, )
#undef WEFT_XT_TAKE
  layers.attn_custom_attn_fn = c.enc_attn_custom_attn_fn, layers.attn_hybrid_module = c.enc_attn_hybrid_module;
  return layers;
}

AttentionLayersConfig decoder_layers(const XTransformerConfig& c) {
  AttentionLayersConfig layers{.dim = c.dim, .depth = c.dec_depth, .heads = c.dec_heads};
#define WEFT_XT_TAKE(P, TYPE, NAME, DEFAULT, DOC, FILE) layers.P##NAME = c.dec_##P##NAME;
  WEFT_XT_LAYERS_OPTIONS(WEFT_XT_TAKE, WEFT_XT_TAKE, )
#undef WEFT_XT_TAKE
  layers.attn_custom_attn_fn = c.dec_attn_custom_attn_fn, layers.attn_hybrid_module = c.dec_attn_hybrid_module;
  layers.cross_attn_custom_attn_fn = c.dec_cross_attn_custom_attn_fn;
  layers.cross_attn_hybrid_module = c.dec_cross_attn_hybrid_module;
  check(!layers.cross_attend, "XTransformer: dec_cross_attend cannot be set: its decoder always cross-attends");
  layers.cross_attend = true;
  return layers;
}

}  // namespace

Fields fields(XTransformerConfig& c) {
  Fields f{{"dim", &c.dim},
           {"enc_num_tokens", &c.enc_num_tokens},
           {"enc_depth", &c.enc_depth},
           {"enc_heads", &c.enc_heads},
           {"enc_max_seq_len", &c.enc_max_seq_len},
           {"dec_num_tokens", &c.dec_num_tokens},
           {"dec_depth", &c.dec_depth},
           {"dec_heads", &c.dec_heads},
           {"dec_max_seq_len", &c.dec_max_seq_len},
           {"tie_token_emb", &c.tie_token_emb},
           {"ignore_index", &c.ignore_index},
           {"pad_value", &c.pad_value},
           {"cross_attn_tokens_dropout", &c.cross_attn_tokens_dropout},
           {"enc_emb_dropout", &c.enc_emb_dropout},
           {"enc_num_memory_tokens", &c.enc_num_memory_tokens},
           {"enc_scaled_sinu_pos_emb", &c.enc_scaled_sinu_pos_emb},
           {"enc_use_abs_pos_emb", &c.enc_use_abs_pos_emb},
           {"dec_emb_dropout", &c.dec_emb_dropout},
           {"dec_scaled_sinu_pos_emb", &c.dec_scaled_sinu_pos_emb},
           {"dec_use_abs_pos_emb", &c.dec_use_abs_pos_emb}};
  WEFT_XT_LAYERS_OPTIONS(WEFT_XT_FIELD, WEFT_XT_FIELD, enc_)
  WEFT_XT_LAYERS_OPTIONS(WEFT_XT_FIELD, WEFT_XT_FIELD, dec_)
  return f;
}

XTransformer::XTransformer(const XTransformerConfig& c) : config_(c) {
  check(!c.tie_token_emb || c.enc_num_tokens >= c.dec_num_tokens, "XTransformer: with tie_token_emb the encoder's ",
        c.enc_num_tokens, " tokens have to hold the decoder's ", c.dec_num_tokens);
  encoder_ =
      std::make_shared<TransformerWrapper>(TransformerWrapperConfig{.num_tokens = c.enc_num_tokens,
                                                                    .max_seq_len = c.enc_max_seq_len,
                                                                    .num_memory_tokens = c.enc_num_memory_tokens,
                                                                    .emb_dropout = c.enc_emb_dropout,
                                                                    .use_abs_pos_emb = c.enc_use_abs_pos_emb,
                                                                    .scaled_sinu_pos_emb = c.enc_scaled_sinu_pos_emb,
                                                                    .return_only_embed = true,
                                                                    .attn_layers = make<Encoder>(encoder_layers(c))});
  const auto decoder = std::make_shared<TransformerWrapper>(
      TransformerWrapperConfig{.num_tokens = c.dec_num_tokens,
                               .max_seq_len = c.dec_max_seq_len,
                               .emb_dropout = c.dec_emb_dropout,
                               .use_abs_pos_emb = c.dec_use_abs_pos_emb,
                               .scaled_sinu_pos_emb = c.dec_scaled_sinu_pos_emb,
                               .token_emb = c.tie_token_emb ? encoder_->token_emb() : nullptr,
                               .attn_layers = make<Decoder>(decoder_layers(c))});
  decoder_ = std::make_shared<AutoregressiveWrapper>(
      AutoregressiveWrapperConfig{.net = decoder, .ignore_index = c.ignore_index, .pad_value = c.pad_value});
  register_module("encoder", encoder_), register_module("decoder", decoder_);
}

XTransformer::Encoded XTransformer::encode(const Tensor& src, const Call& call) const {
  const Tensor states = (*encoder_)(src, xt::Call{.mask = call.mask,
                                                  .attn_mask = call.attn_mask,
                                                  .return_embeddings = true,
                                                  .prepend_embeds = call.src_prepend_embeds});
  Tensor mask = call.mask;
  if (mask.defined() && call.src_prepend_embeds.defined()) mask = pad(mask, {call.src_prepend_embeds.size(1), 0}, 1);
  return {states, mask};
}

Tensor XTransformer::operator()(const Tensor& src, const Tensor& tgt, const Call& call) const {
  auto [states, mask] = encode(src, call);
  if (is_training()) drop_tokens(states, mask, config_.cross_attn_tokens_dropout);
  return (*decoder_)(tgt, xt::Call{.context = states, .context_mask = mask});
}

namespace {

template <class Options>
Options attending_to(const auto& encoded, Options options) {
  const auto& [states, mask] = encoded;
  options.call.context = states, options.call.context_mask = mask;
  return options;
}

}  // namespace

Tensor XTransformer::generate(const Tensor& seq_in, const Tensor& seq_out_start, int64_t seq_len, const Call& call,
                              const GenerateOptions& options) {
  const NoGrad guard;
  const EvalMode mode(*this);
  return decoder_->generate(seq_out_start, seq_len, attending_to(encode(seq_in, call), options));
}

Beams XTransformer::beam_search(const Tensor& seq_in, const Tensor& seq_out_start, int64_t seq_len, const Call& call,
                                const BeamSearchOptions& options) {
  const NoGrad guard;
  const EvalMode mode(*this);
  return decoder_->beam_search(seq_out_start, seq_len, attending_to(encode(seq_in, call), options));
}

}  // namespace weft::xt
