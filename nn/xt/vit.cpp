#include <weft/nn/xt/vit.h>
#include <weft/nn/xt/wrapper_parts.h>
#include <weft/ops/einops.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/random.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

namespace weft::xt {

Fields fields(ViTransformerWrapperConfig& c) {
  Fields f;
  WEFT_XT_VIT_OPTIONS(WEFT_XT_FIELD, )
  return f;
}

ViTransformerWrapper::ViTransformerWrapper(const ViTransformerWrapperConfig& c) : config_(c) {
  check(c.attn_layers != nullptr, "ViTransformerWrapper: no attn_layers given");
  check(c.patch_size > 0 && c.image_size > 0 && c.image_size % c.patch_size == 0, "ViTransformerWrapper: image_size ",
        c.image_size, " does not split into patches of ", c.patch_size);
  check(c.channels > 0 && c.num_register_tokens >= 0,
        "ViTransformerWrapper: expected channels > 0 and num_register_tokens >= 0, got ", c.channels, " and ",
        c.num_register_tokens);
  const int64_t dim = c.attn_layers->dim(), side = c.image_size / c.patch_size;
  const int64_t pixels = c.channels * c.patch_size * c.patch_size;
  pos_embedding_ = register_parameter("pos_embedding", randn({1, side * side, dim}));
  if (c.num_register_tokens > 0)
    register_tokens_ = register_parameter("register_tokens", randn({c.num_register_tokens, dim}));
  patch_to_embedding_.push_back(std::make_shared<LayerNorm>(pixels));
  patch_to_embedding_.push_back(std::make_shared<Linear>(pixels, dim));
  patch_to_embedding_.push_back(std::make_shared<LayerNorm>(dim));
  register_module("patch_to_embedding", patch_to_embedding_);
  if (c.post_emb_norm) post_emb_norm_ = register_module("post_emb_norm", std::make_shared<LayerNorm>(dim));
  register_module("attn_layers", c.attn_layers);
  if (c.num_classes) mlp_head_ = register_module("mlp_head", std::make_shared<Linear>(dim, *c.num_classes));
}

Tensor ViTransformerWrapper::embed(const Tensor& img) const {
  const int64_t p = config_.patch_size;
  check(img.dim() == 4 && img.size(1) == config_.channels && img.size(2) % p == 0 && img.size(3) % p == 0, name(),
        ": expected images [batch, ", config_.channels, ", height, width] of whole patches of ", p, ", got ",
        img.shape());
  Tensor x = rearrange(img, "b c (h p1) (w p2) -> b (h w) (p1 p2 c)", {{"p1", p}, {"p2", p}});
  const int64_t n = x.size(1);
  check(n <= pos_embedding_.size(1), name(), ": ", n, " patches are more than image_size holds, ",
        pos_embedding_.size(1));
  x = patch_to_embedding_(x) + slice(pos_embedding_, 1, 0, n);
  if (post_emb_norm_) x = post_emb_norm_->forward(x);
  x = dropout(x, config_.emb_dropout, is_training());
  if (register_tokens_.defined()) x = cat({x, repeated(register_tokens_, x.size(0))}, 1);
  return slice((*config_.attn_layers)(x, xt::Call{}), 1, 0, n);
}

ViTransformerWrapper::Output ViTransformerWrapper::run(const Tensor& img) const {
  const Tensor embeddings = embed(img), pooled = mean(embeddings, 1);
  return {mlp_head_ ? mlp_head_->forward(pooled) : pooled, embeddings};
}

Tensor ViTransformerWrapper::operator()(const Tensor& img, const Call& call) const {
  return call.return_embeddings ? embed(img) : forward(img);
}

}  // namespace weft::xt
