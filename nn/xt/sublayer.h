// Sublayer: what stands between two additions to the residual stream: attention, cross-attention, feed-forward, or one
// of these in a wrapper.
#pragma once

#include <weft/nn/module.h>
#include <weft/nn/xt/cache.h>

namespace weft::xt {

struct Rotation;
class AlibiPositionalBias;

/// Where n queries stand among the keys of a fixed cache, which has room for more keys than are there.
struct KeyPlaces {
  Tensor queries;  ///< int64 [n]: a causal query sees keys up to its own place
  Tensor length;   ///< int64 [1]: how many keys there are
  bool defined() const { return length.defined(); }
};

/// What a sublayer is given besides x [b, n, dim]; undefined (null) where there is none. A feed-forward uses none of
/// it.
struct SublayerArguments {
  Tensor mask;            ///< bool [b, n]: queries; the output of masked ones is 0
  Tensor shift_mask;      ///< bool [b, n]: shift_tokens moves the other tokens as zeros
  Tensor key_mask;        ///< bool [b, m]: keys that may be seen; without it self-attention takes mask (and mem_mask)
  Tensor attn_mask;       ///< bool, 2 to 4 dimensions, broadcasts to [b, h, n, m]
  Tensor attn_bias;       ///< added to the scores; broadcasts to [b, h, n, m]
  Tensor context;         ///< [b, m, dim_context]: keys and values come from here
  Tensor mem;             ///< [b, l, dim]: keys and values that come before those of x (Transformer-XL)
  Tensor mem_mask;        ///< bool [b, l]
  int64_t memories = 0;   ///< keys that come before those of the first token: l, also where a cache has them
  Tensor prev_attn;       ///< scores of an earlier attention, added (residual_attn)
  Tensor value_residual;  ///< values of the first attention, mixed in
  Tensor condition;       ///< [b, 1 or n, dim_condition]
  const AlibiPositionalBias* alibi = nullptr;  ///< added to the scores, beside attn_bias
  const Rotation* rotation = nullptr;          ///< turns queries and keys: the last places are those of x
  const Rotation* context_rotation = nullptr;  ///< turns the keys of a context
  LayerCache* cache = nullptr;
  KeyPlaces places;  ///< with a fixed cache, of x among the keys; undefined: x is the last of them
};

/// What an attention leaves behind. Scores only where asked for: they are the n x m matrices that a fused attention
/// never makes.
struct Intermediates {
  bool wants_scores = false;
  Tensor qk_similarities = {}, pre_softmax_attn = {}, post_softmax_attn = {};  ///< [b, h, n, m]
  Tensor values = {};     ///< [b, kv_heads, m, d], before any mixing
  Tensor k = {}, v = {};  ///< as attended to, without learned ones
  char layer_type = 'a';
};

/// Not given its norms and not adding its result to the stream: those are AttentionLayers' work.
class Sublayer : public Module {
 public:
  /// x: [b, n, dim] ([3, b, n, dim] where queries, keys and values read different streams) → [b, n, dim]. out may be
  /// null.
  virtual Tensor operator()(const Tensor& x, const SublayerArguments& args, Intermediates* out) const = 0;
  Tensor forward(const Tensor& x) const override { return (*this)(x, {}, nullptr); }
  using Module::operator();
};

}  // namespace weft::xt
