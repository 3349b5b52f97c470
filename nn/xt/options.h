// The options of x-transformers, one row each: what the config structs are made of, what is read from JSON, and what
// docs/xt_options.md is printed from.
//
// A row is X(P, type, name, default, "what it does; where it is from", "file"). P is a prefix: AttentionLayers takes
// the options of Attention as attn_..., those of FeedForward as ff_..., and XTransformer takes all of them as enc_...
// and dec_....  A new option is a new row and the code that reads it.
#pragma once

#include <weft/nn/config.h>

namespace weft::xt {

/// rel_pos_kwargs: what the position bias takes besides its own options.
struct RelPosKwargs {
  std::vector<double> slopes = {};  ///< of ALiBi, one a head; geometric if empty
};
inline Fields fields(RelPosKwargs& c) { return {{"slopes", &c.slopes}}; }

/// residual_fn_kwargs: what HyperConnection takes besides its own options.
struct ResidualFnKwargs {
  bool tanh = true;  ///< squash the input-dependent weights
};
inline Fields fields(ResidualFnKwargs& c) { return {{"tanh", &c.tanh}}; }

/// attn_data_dependent_alibi_kwargs.
struct DataDependentAlibiKwargs {
  double bias_init = 5;       ///< initial bias of the forget gates; not per row
  double post_log_scale = 1;  ///< factor on the log of the gates
};
inline Fields fields(DataDependentAlibiKwargs& c) {
  return {{"bias_init", &c.bias_init}, {"post_log_scale", &c.post_log_scale}};
}

}  // namespace weft::xt

// clang-format off

#define WEFT_XT_ATTENTION_OPTIONS(X, P)                                                                                  \
  X(P, int64_t, dim_head, 64, "features of a head's queries and keys; scores are q k^T / sqrt(dim_head) (arXiv:1706.03762)", "attention") \
  X(P, std::optional<int64_t>, value_dim_head, {}, "features of a head's values; dim_head unless given", "attention")    \
  X(P, std::optional<int64_t>, dim_context, {}, "features of the keys' and values' input; dim unless given", "attention") \
  X(P, std::optional<int64_t>, dim_out, {}, "features of the output; dim unless given", "attention")                     \
  X(P, bool, flash, false, "refuse options that need the n x n matrix of scores (arXiv:2205.14135)", "attend")           \
  X(P, double, dropout, 0, "chance that an attention weight is dropped in training", "attend")                           \
  X(P, int64_t, num_mem_kv, 0, "learned keys and values before all others (arXiv:1907.01470)", "attention")              \
  X(P, bool, add_zero_kv, false, "a key and a value of zeros before all others, to attend to nothing: weights exp(s) / (1 + sum exp(s))", "attend") \
  X(P, bool, one_kv_head, false, "all heads share one key-value head (arXiv:1911.02150)", "attention")                   \
  X(P, std::optional<int64_t>, kv_heads, {}, "key-value heads; head i uses number i modulo kv_heads (arXiv:2305.13245)", "attention") \
  X(P, std::optional<int64_t>, sparse_topk, {}, "keep only the k largest scores of a row (arXiv:1912.11637)", "attend")  \
  X(P, bool, sparse_topk_straight_through, false, "gradients of sparse_topk as if nothing had been left out; no effect without it", "attend") \
  X(P, bool, hard, false, "attend to the largest score alone, gradients of the softmax (arXiv:2410.01104)", "attend")    \
  X(P, bool, sigmoid, false, "sigmoid of each score in place of the softmax (arXiv:2409.04431)", "attend")               \
  X(P, bool, l2_distance, false, "scores are -scale |q - k|^2 (arXiv:2006.04710)", "attend")                             \
  X(P, bool, selective, false, "a token may mask earlier ones for those after it (arXiv:2410.02703)", "attend")          \
  X(P, bool, pre_talking_heads, false, "scores += W scores, W a mixture of heads (arXiv:2003.02436)", "attend")          \
  X(P, bool, post_talking_heads, false, "weights become W weights, W a mixture of heads (arXiv:2003.02436)", "attend")   \
  X(P, bool, pre_scale_post_talking_heads, false, "weights are multiplied by W scores, W a mixture of heads", "attend")  \
  X(P, bool, softclamp_logits, false, "scores become c tanh(scores / c) (Gemma 2, arXiv:2408.00118)", "attend")          \
  X(P, double, logit_softclamp_value, 50, "c of softclamp_logits", "attend")                                             \
  X(P, std::optional<int64_t>, max_attend_past, {}, "a query sees at most this many tokens back", "attention")           \
  X(P, bool, qk_norm, false, "cosine similarity: scores are qk_norm_scale q k^T, with q and k of length 1 (arXiv:2010.04245)", "attention") \
  X(P, int64_t, qk_norm_groups, 1, "groups of features that qk_norm brings to length 1, each apart", "attention")        \
  X(P, double, qk_norm_scale, 10, "factor on the similarities of qk_norm", "attention")                                  \
  X(P, bool, qk_norm_dim_scale, false, "learned factor a feature on q and k after qk_norm (arXiv:2302.05442); no effect without it", "attention") \
  X(P, bool, on_attn, false, "attention on attention: y becomes (W y) sigmoid(V y) (arXiv:1908.06954)", "attention")     \
  X(P, bool, gate_values, false, "y becomes y sigmoid(W x) (AlphaFold2, doi:10.1038/s41586-021-03819-2)", "attention")   \
  X(P, bool, swiglu_values, false, "silu in place of gate_values' sigmoid (arXiv:2002.05202); no effect without it", "attention") \
  X(P, bool, gate_value_heads, false, "each head's output times sigmoid(w x) (arXiv:2306.12929)", "attention")           \
  X(P, bool, head_scale, false, "learned factor a head on its output (NormFormer, arXiv:2110.09456)", "attention")       \
  X(P, bool, laser, false, "y = log(weights exp(v)) (arXiv:2411.03493)", "attention")                                    \
  X(P, double, laser_softclamp_value, 15, "c of laser: v becomes c tanh(v / c) before exp", "attention")                 \
  X(P, bool, data_dependent_alibi, false, "bias: sum of log sigmoid(w x) over the tokens between key and query, forget gates (openreview q2Lnyegkr8)", "data_dependent_alibi") \
  X(P, bool, data_dependent_alibi_per_row, false, "those gates from small queries and keys: log sigmoid(q k); no effect without it", "data_dependent_alibi") \
  X(P, int64_t, data_dependent_alibi_per_row_dim_head, 8, "features of these", "data_dependent_alibi")                   \
  X(P, std::optional<DataDependentAlibiKwargs>, data_dependent_alibi_kwargs, {}, "bias_init: w's bias at first, 5; post_log_scale: factor on the log, 1", "data_dependent_alibi") \
  X(P, bool, use_cope, false, "contextual positions: q times the embedding of the position sum of sigmoid(scores) (arXiv:2405.18719)", "cope") \
  X(P, int64_t, cope_max_pos, 16, "positions of use_cope with an embedding of their own", "cope")                        \
  X(P, bool, cope_soft_onehot_pos, false, "a softmax over the distances to all positions in place of interpolation", "cope") \
  X(P, bool, cope_talking_heads, false, "use_cope counts by W scores, W a mixture of heads", "cope")                     \
  X(P, bool, use_latent_q, false, "q = W_q (V_q x) through a bottleneck (multi-latent attention, arXiv:2405.04434)", "attention") \
  X(P, std::optional<int64_t>, dim_latent_q, {}, "its features", "attention")                                            \
  X(P, bool, use_latent_kv, false, "k = W_k c, v = W_v c with c = V x, a shared bottleneck (arXiv:2405.04434)", "attention") \
  X(P, std::optional<int64_t>, dim_latent_kv, {}, "features of c", "attention")                                          \
  X(P, std::optional<int64_t>, latent_rope_subheads, {}, "this many heads have their keys from x itself and rotate, the others do neither (arXiv:2405.04434)", "attention") \
  X(P, std::optional<int64_t>, hybrid_fold_axial_dim, {}, "hybrid_module runs on so many interleaved sequences in place of one; one unless given", "fold_axially") \
  X(P, bool, hybrid_learned_mix, false, "hybrid_module has the share sigmoid(w x) in each head; else half (arXiv:2411.13676)", "attention") \
  X(P, std::optional<std::string>, hybrid_mask_kwarg, {}, "\"mask\": where attention is not causal, hybrid_module is given the mask", "fold_axially") \
  X(P, bool, zero_init_output, false, "the last layer starts at zero, so that x passes unchanged", "attention")

#define WEFT_XT_FEED_FORWARD_OPTIONS(X, P)                                                                               \
  X(P, double, mult, 4, "hidden features = int(dim mult); f(x W) V (arXiv:1706.03762)", "feed_forward")                  \
  X(P, bool, glu, false, "gated: ((x W) f(x U)) V (arXiv:2002.05202)", "feed_forward")                                   \
  X(P, bool, glu_mult_bias, false, "learned factor a hidden feature on glu's product; no effect without it", "feed_forward") \
  X(P, bool, swish, false, "f = silu (arXiv:1710.05941) in place of gelu (arXiv:1606.08415)", "feed_forward")            \
  X(P, bool, relu_squared, false, "f = max(x, 0)^2 (Primer, arXiv:2109.08668)", "feed_forward")                          \
  X(P, bool, post_act_ln, false, "layer norm after f (NormFormer, arXiv:2110.09456)", "feed_forward")                    \
  X(P, double, dropout, 0, "chance that a hidden feature is dropped in training", "feed_forward")                        \
  X(P, bool, no_bias, false, "linear layers without bias (PaLM, arXiv:2204.02311); a glu keeps its own", "feed_forward") \
  X(P, std::optional<int64_t>, dim_out, {}, "features of the output; dim unless given", "feed_forward")                  \
  X(P, bool, zero_init_output, false, "the last layer starts at zero, so that x passes unchanged", "feed_forward")

// All but dim, depth, heads, which stand in front of them.
#define WEFT_XT_OWN_LAYERS_OPTIONS(X, P)                                                                                 \
  X(P, bool, cross_attend, false, "attend to a context after each self-attention (arXiv:1706.03762)", "layer_order")     \
  X(P, bool, only_cross, false, "cross_attend without self-attention; no effect without it", "layer_order")              \
  X(P, std::vector<std::string>, custom_layers, {}, "the sublayers: a (attention), c (cross-attention), f (feed-forward)", "layer_order") \
  X(P, std::vector<int64_t>, layers_execute_order, {}, "which sublayers run, in order, by number; repeats allowed", "layer_order") \
  X(P, bool, weight_tie_layers, false, "one block, run depth times (arXiv:1909.11942)", "layer_order")                   \
  X(P, std::optional<int64_t>, sandwich_coef, {}, "this many attentions moved to the front, as many feed-forwards to the end (arXiv:1911.03864)", "layer_order") \
  X(P, std::optional<int64_t>, par_ratio, {}, "one attention in so many sublayers, all in the first two thirds (arXiv:2009.04534)", "layer_order") \
  X(P, bool, macaron, false, "half a feed-forward before attention, half after (arXiv:1906.02762)", "layer_order")       \
  X(P, bool, use_scalenorm, false, "g sqrt(dim) x / |x|, one learned g (arXiv:1910.05895)", "norm")                      \
  X(P, bool, use_rmsnorm, false, "g sqrt(dim) x / |x|, a learned g a feature; no mean is taken off (arXiv:1910.07467)", "norm") \
  X(P, bool, use_simple_rmsnorm, false, "sqrt(dim) x / |x|, nothing learned (arXiv:2307.14995)", "norm")                 \
  X(P, bool, use_adaptive_layernorm, false, "layer norm times 1 + W condition (DiT, arXiv:2212.09748)", "norm")          \
  X(P, bool, use_adaptive_rmsnorm, false, "RMS norm times 1 + W condition", "norm")                                      \
  X(P, bool, norm_add_unit_offset, true, "scales are stored less 1, so that weight decay pulls them to 1", "norm")       \
  X(P, std::optional<int64_t>, dim_condition, {}, "features of the condition; dim unless given", "attention_layers")     \
  X(P, bool, adaptive_condition_mlp, false, "condition becomes silu(W condition) before its uses", "attention_layers")   \
  X(P, int64_t, adaptive_condition_mlp_expansion, 4, "W's output features over its input's", "attention_layers")         \
  X(P, bool, pre_norm, true, "norm before a sublayer (arXiv:2002.04745); else after adding the residual", "attention_layers") \
  X(P, bool, pre_norm_has_final_norm, true, "no effect, as in 2.0.4: with pre_norm a last norm is always there", "attention_layers") \
  X(P, bool, residual_attn, false, "scores += the previous attention's (arXiv:2012.11747)", "attend")                    \
  X(P, bool, cross_residual_attn, false, "the same from one cross-attention to the next (arXiv:2012.11747)", "attend")   \
  X(P, bool, sandwich_norm, false, "a norm after a sublayer too (arXiv:2105.13290)", "attention_layers")                 \
  X(P, bool, resi_dual, false, "post-norm, and beside it the sum of all outputs, normalised once at the end (arXiv:2304.14802)", "attention_layers") \
  X(P, double, resi_dual_scale, 1, "factor on that sum", "attention_layers")                                             \
  X(P, bool, gate_residual, false, "x becomes GRU(out, x) in place of out + x (arXiv:1910.06764)", "residual")           \
  X(P, bool, scale_residual, false, "out + g x, learned g a feature (NormFormer, arXiv:2110.09456); no effect with num_residual_streams above 1", "residual") \
  X(P, double, scale_residual_constant, 1, "out + c x (DeepNorm, arXiv:2203.00555); no effect with gate_residual or num_residual_streams above 1", "residual") \
  X(P, int64_t, num_residual_streams, 1, "streams that sublayers read and write by learned mixtures: hyper-connections (arXiv:2409.19606)", "hyper_connection") \
  X(P, std::optional<ResidualFnKwargs>, residual_fn_kwargs, {}, "tanh: squash the mixtures' dependence on x, true; no effect with one stream", "hyper_connection") \
  X(P, bool, qkv_receive_diff_residuals, false, "queries, keys and values each read a mixture of streams of their own", "hyper_connection") \
  X(P, bool, use_layerscale, false, "g out, learned g a feature (CaiT, arXiv:2103.17239)", "wrappers")                   \
  X(P, double, layerscale_init_value, 0, "g at first", "wrappers")                                                       \
  X(P, bool, use_adaptive_layerscale, false, "out sigmoid(W condition) (DiT, arXiv:2212.09748)", "wrappers")             \
  X(P, OneOrEach<int64_t>, shift_tokens, 0, "some features from this many tokens back (RWKV, arXiv:2305.13048); one number, or one a sublayer", "wrappers") \
  X(P, bool, padding_invariant, false, "shift_tokens before a feed-forward zeroes padding first, as before attention", "wrappers") \
  X(P, bool, unet_skips, false, "a block of the second half reads W [x of its mirror in the first half, x] (arXiv:2209.12152)", "attention_layers") \
  X(P, bool, reinject_input, false, "W input is added to x before every sublayer (arXiv:1909.01377)", "attention_layers") \
  X(P, bool, learned_reinject_input_gate, false, "times sigmoid(w input), one a token (arXiv:2410.03020)", "attention_layers") \
  X(P, bool, add_value_residual, false, "v becomes first + s (v - first), first: the first attention's values (arXiv:2410.17897)", "attention") \
  X(P, bool, learned_value_residual_mix, true, "s = sigmoid(w x), a share a head and token; else s = 1/2", "attention")  \
  X(P, bool, softclamp_output, false, "x becomes c tanh(x / c) at the end (Gemma 2, arXiv:2408.00118)", "attention_layers") \
  X(P, double, softclamp_output_value, 30, "c of softclamp_output", "attention_layers")                                  \
  X(P, bool, rel_pos_bias, false, "T5's bias: sqrt(dim_head) w[bucket of the distance], learned (arXiv:1910.10683)", "position_bias") \
  X(P, int64_t, rel_pos_num_buckets, 32, "buckets: small distances have one each, larger ones share by their logarithm", "position_bias") \
  X(P, int64_t, rel_pos_max_distance, 128, "from it on all are in one bucket", "position_bias")                          \
  X(P, bool, dynamic_pos_bias, false, "bias f(distance), f a small network (arXiv:2108.00154)", "position_bias")         \
  X(P, bool, dynamic_pos_bias_log_distance, false, "f(sign(d) log(|d| + 1)) (Swin v2, arXiv:2111.09883)", "position_bias") \
  X(P, int64_t, dynamic_pos_bias_mlp_depth, 2, "f's hidden layers", "position_bias")                                     \
  X(P, bool, dynamic_pos_bias_norm, false, "layer norms inside f", "position_bias")                                      \
  X(P, bool, alibi_pos_bias, false, "bias -slope |distance| (arXiv:2108.12409)", "position_bias")                        \
  X(P, std::optional<int64_t>, alibi_num_heads, {}, "on the first heads only; 0 on the others", "position_bias")         \
  X(P, std::optional<RelPosKwargs>, rel_pos_kwargs, {}, "slopes: ALiBi's, one a head; geometric unless given", "position_bias") \
  X(P, bool, rotary_pos_emb, false, "features 2k, 2k + 1 of q and k turn by position base^(-2k / r) (arXiv:2104.09864)", "rotary_embedding") \
  X(P, std::optional<int64_t>, rotary_emb_dim, {}, "r: features of a head that turn; half of them unless given", "rotary_embedding") \
  X(P, bool, rotary_xpos, false, "q times and k over ((2k + 0.4 r) / 1.4 r)^(position / scale_base): scores fade with distance (arXiv:2212.10554)", "rotary_embedding") \
  X(P, double, rotary_xpos_scale_base, 512, "scale_base of rotary_xpos", "rotary_embedding")                             \
  X(P, double, rotary_interpolation_factor, 1, "positions are divided by it (arXiv:2306.15595)", "rotary_embedding")     \
  X(P, double, rotary_base_rescale_factor, 1, "base becomes base factor^(r / (r - 2)), for longer texts (NTK-aware)", "rotary_embedding") \
  X(P, std::optional<int64_t>, rotate_num_heads, {}, "only the last heads turn", "attention")                            \
  X(P, std::optional<bool>, disable_abs_pos_emb, {}, "true with rel_pos_bias and rotary_pos_emb unless given", "transformer_wrapper") \
  X(P, OneOrEach<double>, layer_dropout, 0, "chance of leaving a sublayer out in training (arXiv:1603.09382)", "attention_layers") \
  X(P, double, cross_attn_tokens_dropout, 0, "share of the context left out in training (arXiv:2202.07765)", "attention_layers") \
  X(P, bool, zero_init_branch_output, false, "zero_init_output of every sublayer", "attention_layers")

// Of the wrappers.
#define WEFT_XT_TRANSFORMER_WRAPPER_OPTIONS(X, P)                                                                        \
  X(P, int64_t, num_tokens, 0, "size of the vocabulary; needed", "transformer_wrapper")                                  \
  X(P, int64_t, max_seq_len, 0, "longest text with positions; 0: no positions are added", "transformer_wrapper")         \
  X(P, int64_t, max_mem_len, 0, "mems that a call returns are at most so long (0: any length; Transformer-XL, arXiv:1901.02860)", "transformer_wrapper") \
  X(P, int64_t, shift_mem_down, 0, "mems of layer i + this go to layer i (enhanced recurrence, arXiv:2012.15688)", "transformer_wrapper") \
  X(P, std::optional<int64_t>, num_memory_tokens, {}, "learned tokens in front (arXiv:2006.11527)", "transformer_wrapper") \
  X(P, std::optional<int64_t>, memory_tokens_interspersed_every, {}, "they stand in front of every so many tokens; causal only", "transformer_wrapper") \
  X(P, double, emb_dropout, 0, "chance that an embedding's feature is dropped in training", "transformer_wrapper")       \
  X(P, bool, l2norm_embed, false, "embeddings of length 1 (fixnorm, arXiv:1910.05895)", "transformer_wrapper")           \
  X(P, bool, post_emb_norm, false, "a layer norm on the sum of embeddings (BLOOM, arXiv:2211.05100)", "transformer_wrapper") \
  X(P, bool, use_abs_pos_emb, true, "positions are added to the embeddings, unless the layers have some of their own", "transformer_wrapper") \
  X(P, bool, scaled_sinu_pos_emb, false, "g sin(position / 10000^(2k / dim)), and cos, one learned g, in place of learned positions (arXiv:1706.03762)", "transformer_wrapper") \
  X(P, bool, tie_embedding, false, "logits x E^T with the embedding's own E (arXiv:1608.05859)", "transformer_wrapper")  \
  X(P, std::optional<int64_t>, emb_dim, {}, "features of embeddings, projected to dim where it differs", "transformer_wrapper") \
  X(P, double, emb_frac_gradient, 1, "share of the gradient that reaches the embeddings (arXiv:2105.13290)", "transformer_wrapper") \
  X(P, NamedIntegers, embed_num_tokens, {}, "further embeddings (types, say), added: vocabulary sizes by name (BERT, arXiv:1810.04805)", "transformer_wrapper") \
  X(P, std::optional<int64_t>, logits_dim, {}, "numbers of logits; num_tokens unless given", "transformer_wrapper")      \
  X(P, bool, return_only_embed, false, "no logits at all: the layers' output", "transformer_wrapper")                    \
  X(P, int64_t, num_output_heads, 1, "sets of logits", "transformer_wrapper")                                            \
  X(P, bool, average_pool_embed, false, "logits of the mean token", "transformer_wrapper")                               \
  X(P, bool, use_cls_token, false, "logits of learned tokens in front (BERT, arXiv:1810.04805)", "transformer_wrapper")  \
  X(P, int64_t, num_cls_tokens, 1, "how many of them", "transformer_wrapper")                                            \
  X(P, bool, squeeze_out_last_dim, false, "a last dimension of 1 is dropped", "transformer_wrapper")                     \
  X(P, bool, recycling, false, "input + W output goes through the layers again, recycle_steps times (AlphaFold2, doi:10.1038/s41586-021-03819-2)", "transformer_wrapper") \
  X(P, int64_t, train_max_recycle_steps, 4, "recycle_steps is drawn up to this in training", "transformer_wrapper")      \
  X(P, bool, mixture_of_softmax, false, "logits are log sum of w_k softmax(W_k x) (arXiv:1711.03953)", "transformer_wrapper") \
  X(P, int64_t, mixture_of_softmax_k, 4, "softmaxes in it", "transformer_wrapper")                                       \
  X(P, bool, sigsoftmax_logits, false, "logits + log sigmoid(logits) (arXiv:1805.10829)", "transformer_wrapper")         \
  X(P, double, attn_z_loss_weight, 1e-4, "factor on the mean of (log sum exp(scores))^2, which a call may ask for (arXiv:2202.08906)", "transformer_wrapper")

#define WEFT_XT_MULTI_INPUT_OPTIONS(X, P)                                                                                \
  X(P, NamedIntegers, num_tokens, {}, "vocabulary sizes by name; needed", "multi_input")                                 \
  X(P, int64_t, max_seq_len, 0, "longest text with positions; 0: no positions are added", "multi_input")                 \
  X(P, std::optional<int64_t>, emb_dim, {}, "features of embeddings, projected to dim where it differs", "multi_input")  \
  X(P, int64_t, max_mem_len, 0, "mems that a call returns are at most so long (0: any length; Transformer-XL, arXiv:1901.02860)", "multi_input") \
  X(P, int64_t, shift_mem_down, 0, "mems of layer i + this go to layer i (enhanced recurrence, arXiv:2012.15688)", "multi_input") \
  X(P, double, emb_dropout, 0, "chance that an embedding's feature is dropped in training", "multi_input")               \
  X(P, bool, post_emb_norm, false, "a layer norm on the sum of embeddings (BLOOM, arXiv:2211.05100)", "multi_input")     \
  X(P, std::optional<int64_t>, num_memory_tokens, {}, "learned tokens in front (arXiv:2006.11527)", "multi_input")       \
  X(P, std::optional<int64_t>, memory_tokens_interspersed_every, {}, "they stand in front of every so many tokens; causal only", "multi_input") \
  X(P, bool, return_only_embed, false, "no logits at all: the layers' output", "multi_input")                            \
  X(P, bool, use_abs_pos_emb, true, "positions are added to the embeddings, unless the layers have some of their own", "multi_input") \
  X(P, bool, scaled_sinu_pos_emb, false, "g sin(position / 10000^(2k / dim)), and cos, one learned g, in place of learned positions (arXiv:1706.03762)", "multi_input") \
  X(P, double, emb_frac_gradient, 1, "share of the gradient that reaches the embeddings (arXiv:2105.13290)", "multi_input") \
  X(P, double, attn_z_loss_weight, 1e-4, "factor on the mean of (log sum exp(scores))^2, which a call may ask for (arXiv:2202.08906)", "multi_input")

#define WEFT_XT_CONTINUOUS_OPTIONS(X, P)                                                                                 \
  X(P, std::optional<int64_t>, dim_in, {}, "features of the input, projected to dim; dim unless given", "continuous")    \
  X(P, std::optional<int64_t>, dim_out, {}, "features of the output; dim unless given", "continuous")                    \
  X(P, int64_t, max_seq_len, 0, "longest text with positions; 0: no positions are added", "continuous")                  \
  X(P, int64_t, max_mem_len, 0, "mems that a call returns are at most so long (0: any length; Transformer-XL, arXiv:1901.02860)", "continuous") \
  X(P, std::optional<int64_t>, num_memory_tokens, {}, "learned tokens in front (arXiv:2006.11527)", "continuous")        \
  X(P, bool, post_emb_norm, false, "a layer norm on the sum of embeddings (BLOOM, arXiv:2211.05100)", "continuous")      \
  X(P, double, emb_dropout, 0, "chance that an embedding's feature is dropped in training", "continuous")                \
  X(P, bool, use_abs_pos_emb, true, "positions are added to the embeddings, unless the layers have some of their own", "continuous") \
  X(P, bool, scaled_sinu_pos_emb, false, "g sin(position / 10000^(2k / dim)), and cos, one learned g, in place of learned positions (arXiv:1706.03762)", "continuous") \
  X(P, bool, average_pool_embed, false, "the output is that of the mean place", "continuous")

#define WEFT_XT_XVAL_OPTIONS(X, P)                                                                                       \
  X(P, int64_t, num_tokens, 0, "size of the vocabulary; needed", "xval")                                                 \
  X(P, int64_t, numerical_token_id, 0, "the token that stands for every number; its embedding is scaled by the number (arXiv:2310.02989)", "xval") \
  X(P, int64_t, max_seq_len, 0, "longest text with positions; 0: no positions are added", "xval")                        \
  X(P, std::optional<int64_t>, emb_dim, {}, "features of embeddings, projected to dim where it differs", "xval")         \
  X(P, std::optional<int64_t>, logits_dim, {}, "numbers of logits; num_tokens unless given", "xval")                     \
  X(P, bool, tie_embedding, false, "logits x E^T with the embedding's own E (arXiv:1608.05859)", "xval")                 \
  X(P, int64_t, max_mem_len, 0, "mems that a call returns are at most so long (0: any length; Transformer-XL, arXiv:1901.02860)", "xval") \
  X(P, std::optional<int64_t>, num_memory_tokens, {}, "learned tokens in front (arXiv:2006.11527)", "xval")              \
  X(P, double, emb_dropout, 0, "chance that an embedding's feature is dropped in training", "xval")                      \
  X(P, bool, use_abs_pos_emb, true, "positions are added to the embeddings, unless the layers have some of their own", "xval") \
  X(P, bool, scaled_sinu_pos_emb, false, "g sin(position / 10000^(2k / dim)), and cos, one learned g, in place of learned positions (arXiv:1706.03762)", "xval")

#define WEFT_XT_VIT_OPTIONS(X, P)                                                                                        \
  X(P, int64_t, image_size, 0, "side of the largest image; needed", "vit")                                               \
  X(P, int64_t, patch_size, 0, "side of a patch; needed (arXiv:2010.11929)", "vit")                                      \
  X(P, std::optional<int64_t>, num_classes, {}, "logits of the mean embedding; without it the mean embedding itself (arXiv:2205.01580)", "vit") \
  X(P, int64_t, channels, 3, "of the image", "vit")                                                                      \
  X(P, bool, post_emb_norm, false, "a layer norm on the sum of embeddings (BLOOM, arXiv:2211.05100)", "vit")             \
  X(P, int64_t, num_register_tokens, 0, "learned tokens behind the patches (arXiv:2309.16588)", "vit")                   \
  X(P, double, emb_dropout, 0, "chance that an embedding's feature is dropped in training", "vit")

// What a struct is made of.
#define WEFT_XT_OPTION(P, TYPE, NAME, DEFAULT, DOC, FILE) TYPE P##NAME = DEFAULT;
#define WEFT_XT_OVERRIDE(P, TYPE, NAME, DEFAULT, DOC, FILE) ::weft::xt::Override<TYPE> P##NAME = {};
#define WEFT_XT_LAYERS_OPTIONS(X, OVERRIDE, P)                                                                           \
  WEFT_XT_OWN_LAYERS_OPTIONS(X, P)                                                                                       \
  WEFT_XT_ATTENTION_OPTIONS(X, P##attn_)                                                                                 \
  WEFT_XT_FEED_FORWARD_OPTIONS(X, P##ff_)                                                                                \
  WEFT_XT_ATTENTION_OPTIONS(OVERRIDE, P##cross_attn_)

// Inside `Fields fields(Config& c) { Fields f; ...; return f; }`.
#define WEFT_XT_QUOTED(X) WEFT_XT_QUOTED_(X)
#define WEFT_XT_QUOTED_(X) #X
#define WEFT_XT_FIELD(P, TYPE, NAME, DEFAULT, DOC, FILE) f.emplace_back(WEFT_XT_QUOTED(P##NAME), &c.P##NAME);

// clang-format on

namespace weft::xt {

template <class T>
struct OverrideOf {
  using type = std::optional<T>;
};
template <class T>
struct OverrideOf<std::optional<T>> {
  using type = std::optional<T>;
};
/// An option that stands in for another where it is given: cross_attn_dropout for attn_dropout.
template <class T>
using Override = typename OverrideOf<T>::type;

/// One row of the list above.
struct OptionRow {
  std::string name, type, default_value, doc, file;
};
/// The options of Attention, FeedForward or AttentionLayers (its own).
std::vector<OptionRow> attention_options(), feed_forward_options(), attention_layers_options();
/// Those of the wrappers.
std::vector<OptionRow> transformer_wrapper_options(), multi_input_options(), continuous_options(), xval_options(),
    vit_options();

}  // namespace weft::xt
