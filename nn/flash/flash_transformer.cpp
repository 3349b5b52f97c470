#include <weft/nn/flash/flash_transformer.h>
#include <weft/nn/norm.h>
#include <weft/ops/elementwise.h>

#include <algorithm>

namespace weft::flash {
namespace {

const FLASHTransformerConfig& checked(const FLASHTransformerConfig& c) {
  check(c.num_tokens > 0 && c.depth >= 0, "FLASHTransformer: expected num_tokens > 0 and depth >= 0, got ",
        c.num_tokens, " and ", c.depth);
  check(c.dim > 0 && c.dim % 2 == 0, "FLASHTransformer: dim must be positive and even, got ", c.dim);
  check(c.norm_type == "scalenorm" || c.norm_type == "layernorm",
        "FLASHTransformer: norm_type must be scalenorm or layernorm, got ", c.norm_type);
  return c;
}

}  // namespace

FLASHTransformer::FLASHTransformer(const FLASHTransformerConfig& c)
    : config_(checked(c)),
      token_emb_(c.num_tokens, c.dim),
      abs_pos_emb_({.dim = c.dim}),
      to_logits_(std::make_shared<LayerNorm>(c.dim), std::make_shared<Linear>(c.dim, c.num_tokens)) {
  register_module("token_emb", token_emb_);
  register_module("abs_pos_emb", abs_pos_emb_);
  register_module("layers", layers_);
  register_module("to_logits", to_logits_);
  const auto rotary =
      std::make_shared<RotaryEmbedding>(RotaryEmbeddingConfig{.dim = std::min<int64_t>(32, c.query_key_dim)});
  for (int64_t i = 0; i < c.depth; ++i) {
    layers_.push_back(std::make_shared<FLASH>(FLASHConfig{
        .dim = c.dim,
        .group_size = c.group_size,
        .causal = c.causal,
        .query_key_dim = c.query_key_dim,
        .expansion_factor = c.expansion_factor,
        .laplace_attn_fn = c.laplace_attn_fn,
        .dropout = c.attn_dropout,
        .rotary_pos_emb = rotary,
        .norm_klass = c.norm_type == "scalenorm" ? "ScaleNorm" : "LayerNorm",
        .shift_tokens = c.shift_tokens,
        .reduce_group_non_causal_attn = c.reduce_group_non_causal_attn,
        .padding_invariant = c.padding_invariant,
    }));
  }
}

Tensor FLASHTransformer::operator()(const Tensor& tokens, const Tensor& mask) const {
  check(tokens.dim() == 2, "FLASHTransformer: expected tokens [batch, length], got ", tokens.shape());
  const Tensor x = token_emb_(tokens);  // [b, n, d]
  ResidualStream stream{Autocast::apply(x + abs_pos_emb_(x))};
  Places places;
  if (layers_.size() > 0) places = layers_.at<FLASH>(0).places(tokens.size(1));
  for (int64_t i = 0; i < layers_.size(); ++i) stream = layers_.at<FLASH>(i)(stream, mask, places);
  return to_logits_[1](stream.add_norm(to_logits_.at<LayerNorm>(0)).second);
}

}  // namespace weft::flash
