// What a call may be given besides the sequence, and what it leaves behind.
#pragma once

#include <weft/nn/xt/rotary_embedding.h>
#include <weft/nn/xt/sublayer.h>

#include <optional>

namespace weft::xt {

/// Arguments of a call of AttentionLayers, and of a wrapper around them (the second part is for wrappers alone). All
/// may be left out: model(x, {.mask = mask, .context = context}). b: batch, n: tokens, m: context, l: memories.
struct Call {
  Tensor mask = {};               ///< bool [b, n], true at real tokens
  Tensor context = {};            ///< [b, m, dim]: what cross-attention attends to
  Tensor context_mask = {};       ///< bool [b, m]
  Tensor attn_mask = {};          ///< bool, broadcasts to [b, h, n, n]: who may see whom
  Tensor self_attn_kv_mask = {};  ///< bool [b, n]: which tokens may be seen, in place of mask; their own outputs stay
  Tensors mems = {};              ///< of each self-attention, [b, l, dim]: what came before (Transformer-XL)
  Tensors mem_masks = {};         ///< bool [b, l]; an undefined one: all may be seen
  Tensor seq_start_pos = {};      ///< int64 [b]: tokens before it are left padding
  Tensor padding_mask = {};       ///< bool [b, n]: tokens that may be seen, and that shift_tokens moves; others stay
  Tensor pos = {};                ///< positions [n] or [b, n] in place of 0, 1, ... (ALiBi also [b, h, n]); a wrapper
                                  ///< takes them for its embeddings (of tokens also floating: the embeddings), and its
                                  ///< layers count 0, 1, ...
  std::optional<Rotation> rotary_pos_emb = {};  ///< turns queries and keys, in place of what the layers make of pos
  Tensor context_pos = {};                      ///< positions [m] or [b, m] of the context, for rotary cross-attention
  Tensor attn_bias = {};                        ///< broadcasts to [b, h, n, n], added to the scores; one n > 1 wide
                                                ///< leaves those of earlier keys (memories, a cache's) as they are
  Tensor condition = {};                        ///< [b, d] or [b, n, d], for adaptive norms and scales
  Tensor in_attn_cond = {};  ///< [b, dim] or [b, n, dim], added to x before each sublayer (arXiv:2105.04090)
  std::vector<int64_t> layers_execute_order = {};  ///< in place of the configured one
  Tensor prefix_attn_len = {};                     ///< int64 [b] or []: PrefixDecoder's tokens that everyone may see
  Cache* cache = nullptr;                          ///< of the tokens before x; x is added to it
  bool return_attn = false;                        ///< keep the matrices of scores and weights

  // --- wrappers
  bool return_embeddings = false;                              ///< the layers' output in place of logits
  Tensor prepend_embeds = {};                                  ///< [b, p, emb_dim] before the tokens' embeddings
  Tensor prepend_mask = {};                                    ///< bool [b, p]
  std::vector<std::pair<std::string, Tensor>> embed_ids = {};  ///< by name: ids [b, n] of embed_num_tokens
  Tensor sum_embeds = {};                     ///< broadcasts to [b, n, emb_dim], added to the tokens' embeddings
  std::optional<int64_t> recycle_steps = {};  ///< passes through the layers (recycling)
  bool return_mems = false;                   ///< mems for the next call
  bool return_attn_z_loss = false;  ///< attn_z_loss_weight · mean over tokens of Σ_heads (log Σ exp(scores))²
  std::optional<double> attn_z_loss_weight = {};  ///< in place of the configured one
  bool return_logit_entropies = false;
};

/// What a call of the layers leaves behind.
struct LayerIntermediates {
  Tensors hiddens;     ///< input of each self-attention, before its norm: mems of the next call
  Tensor last_hidden;  ///< the output
  std::vector<Intermediates> attn_intermediates;
  Tensors layer_hiddens;  ///< input of each sublayer, and the last sublayer's output
  Tensor memory_tokens;   ///< where there are any, what became of them: [b, num, dim]
};

}  // namespace weft::xt
