// TokenEmbedding: a vector a token.
#pragma once

#include <weft/nn/embedding.h>
#include <weft/nn/init.h>
#include <weft/ops/norm.h>

namespace weft::xt {

/// Starts normal with deviation √(2 / dim); of length 1, and almost 0 at first, if l2norm_embed (fixnorm,
/// arXiv:1910.05895).
class TokenEmbedding : public Module {
 public:
  TokenEmbedding(int64_t dim, int64_t num_tokens, bool l2norm_embed = false)
      : emb(num_tokens, dim), l2norm_embed_(l2norm_embed) {
    register_module("emb", emb);
    l2norm_embed ? init::normal_(emb.weight, 0, 1e-5) : init::kaiming_normal_(emb.weight);
  }
  Tensor forward(const Tensor& ids) const override { return l2norm_embed_ ? normalize(emb(ids)) : emb(ids); }
  std::string name() const override { return "TokenEmbedding"; }

  Embedding emb;

 private:
  bool l2norm_embed_;
};

}  // namespace weft::xt
