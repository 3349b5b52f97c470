"""Cases of x-transformers 2.0.4: every option alone, calls with every kind of mask, and combinations drawn at random.

Left out is what the original gets wrong (rows that may attend to nothing, masks that its flash path drops) and what it
draws at random in a forward pass.
"""

import random

import torch

from case import Case, integers, lengths, normal, scattered, values

DIM, TOKENS, LENGTH = 12, 20, 16
PACKAGE = "x_transformers."
ATTEMPTS = 3


def case(name, module, config, inputs, kwargs=None, **options):
    discrete = any(word in name for word in ("greedy", "sparse_topk", "hard", "filter"))
    dynamic = "dynamic_pos_bias" in str(config)  # whose positions are made with .float()
    return Case(name, PACKAGE + module, config, inputs, kwargs or {}, distribution="x-transformers", double_float=dynamic, attempts=ATTEMPTS, discrete=discrete, exact_softmax=True, **options)


def layers(**options):
    """Keyword arguments of a small stack of layers."""
    base = {"dim": DIM, "depth": 1, "heads": 2, "attn_dim_head": 8, "ff_mult": 2}
    return {k: v for k, v in {**base, **options}.items() if v is not None}


def stack(name, cls="Decoder", inputs=None, kwargs=None, n=9, **options):
    """A stack of layers alone, on vectors: gradients reach its input."""
    return case(name, cls, layers(**options), {"x": normal(2, n, DIM), **(inputs or {})}, kwargs)


def model(name, cls="Decoder", inputs=None, kwargs=None, n=9, wrapper=None, **options):
    """A TransformerWrapper, on tokens."""
    config = {"num_tokens": TOKENS, "max_seq_len": LENGTH, "attn_layers": {"class": cls, **layers(**options)}}
    inputs = {"x": integers(2, n, high=TOKENS), **(inputs or {})}
    return case(name, "TransformerWrapper", {**config, **(wrapper or {})}, inputs, kwargs)


# ---- every option of the layers alone

# name -> options; as a decoder and, where it makes sense, as an encoder.
LAYER_OPTIONS = {
    "plain": {},
    "two_layers": {"depth": 2},
    "scalenorm": {"use_scalenorm": True},
    "rmsnorm": {"use_rmsnorm": True},
    "simple_rmsnorm": {"use_simple_rmsnorm": True},
    "no_unit_offset": {"norm_add_unit_offset": False},
    "post_norm": {"pre_norm": False, "depth": 2},
    "sandwich_norm": {"sandwich_norm": True},
    "alibi": {"alibi_pos_bias": True},
    "alibi_some_heads": {"alibi_pos_bias": True, "alibi_num_heads": 1},
    "t5_bias": {"rel_pos_bias": True},
    "t5_bias_few_buckets": {"rel_pos_bias": True, "rel_pos_num_buckets": 4, "rel_pos_max_distance": 6},
    # A softmax does not see the last bias of a dynamic bias, whose gradient is then rounding alone; a sigmoid does.
    "dynamic_bias": {"dynamic_pos_bias": True, "attn_sigmoid": True},
    "dynamic_bias_log": {"dynamic_pos_bias": True, "dynamic_pos_bias_log_distance": True, "attn_sigmoid": True},
    "dynamic_bias_deep_norm": {"dynamic_pos_bias": True, "dynamic_pos_bias_mlp_depth": 3, "dynamic_pos_bias_norm": True, "attn_sigmoid": True},
    "rotary": {"rotary_pos_emb": True},
    "rotary_all_dims": {"rotary_pos_emb": True, "rotary_emb_dim": 8},
    "rotary_interpolated": {"rotary_pos_emb": True, "rotary_interpolation_factor": 2.0},
    "rotary_rescaled": {"rotary_pos_emb": True, "rotary_base_rescale_factor": 4.0},
    "rotary_odd_dim": {"rotary_pos_emb": True, "rotary_emb_dim": 3, "rotary_base_rescale_factor": 2.0},
    "rotary_one_head": {"rotary_pos_emb": True, "rotate_num_heads": 1},
    "tied_layers": {"weight_tie_layers": True, "depth": 3},
    "custom_layers": {"custom_layers": ["a", "f", "f", "a"], "depth": None},
    "execute_order": {"depth": 2, "layers_execute_order": [0, 1, 0, 1, 2, 3]},
    "sandwich_order": {"sandwich_coef": 1, "depth": 3},
    "par": {"par_ratio": 4, "depth": 4},
    "residual_attn": {"residual_attn": True, "depth": 2},
    "macaron": {"macaron": True},
    "gate_residual": {"gate_residual": True},
    "scale_residual": {"scale_residual": True},
    "scale_residual_constant": {"scale_residual_constant": 1.7},
    "shift_tokens": {"shift_tokens": 1},
    "shift_tokens_2": {"shift_tokens": 2},
    "softclamp_output": {"softclamp_output": True, "softclamp_output_value": 2.0},
    "layerscale": {"use_layerscale": True, "layerscale_init_value": 0.5},
    "unet_skips": {"unet_skips": True, "depth": 4},
    "hyper_connections": {"num_residual_streams": 3, "depth": 2},
    "hyper_connections_tanh": {"num_residual_streams": 2, "residual_fn_kwargs": {"tanh": False}},
    "hyper_connections_views": {"num_residual_streams": 2, "qkv_receive_diff_residuals": True, "depth": 2},
    "reinject_input": {"reinject_input": True, "depth": 2},
    "reinject_input_gated": {"reinject_input": True, "learned_reinject_input_gate": True, "depth": 2},
    "value_residual": {"add_value_residual": True, "depth": 2},
    "value_residual_fixed": {"add_value_residual": True, "learned_value_residual_mix": False, "depth": 2},
    "zero_init_output": {"zero_init_branch_output": True},
    # feed-forward
    "ff_glu": {"ff_glu": True},
    "ff_swiglu": {"ff_glu": True, "ff_swish": True},
    "ff_glu_mult_bias": {"ff_glu": True, "ff_glu_mult_bias": True},
    "ff_swish": {"ff_swish": True},
    "ff_relu_squared": {"ff_relu_squared": True},
    "ff_relu_squared_glu": {"ff_relu_squared": True, "ff_glu": True},
    "ff_no_bias": {"ff_no_bias": True},
    "ff_post_act_ln": {"ff_post_act_ln": True},
    # attention
    "flash": {"attn_flash": True},
    "talking_heads_pre": {"attn_pre_talking_heads": True},
    "talking_heads_post": {"attn_post_talking_heads": True},
    "talking_heads_both": {"attn_pre_talking_heads": True, "attn_post_talking_heads": True, "heads": 4},
    "talking_heads_scale": {"attn_pre_scale_post_talking_heads": True},
    "head_scale": {"attn_head_scale": True},
    "sparse_topk": {"attn_sparse_topk": 3},
    "sparse_topk_straight_through": {"attn_sparse_topk": 3, "attn_sparse_topk_straight_through": True},
    "hard": {"attn_hard": True},
    "mem_kv": {"attn_num_mem_kv": 3},
    "mem_kv_flash": {"attn_num_mem_kv": 3, "attn_flash": True},
    "on_attn": {"attn_on_attn": True},
    "gate_value_heads": {"attn_gate_value_heads": True},
    "gate_values": {"attn_gate_values": True},
    "swiglu_values": {"attn_gate_values": True, "attn_swiglu_values": True},
    "qk_norm": {"attn_qk_norm": True},
    "qk_norm_groups": {"attn_qk_norm": True, "attn_qk_norm_groups": 2},
    "qk_norm_scale": {"attn_qk_norm": True, "attn_qk_norm_scale": 4},
    "qk_norm_dim_scale": {"attn_qk_norm": True, "attn_qk_norm_dim_scale": True},
    "l2_distance": {"attn_l2_distance": True},
    "sigmoid": {"attn_sigmoid": True},
    "selective": {"attn_selective": True, "heads": 2},
    "one_kv_head": {"attn_one_kv_head": True},
    "kv_heads": {"attn_kv_heads": 2, "heads": 4},
    "kv_heads_flash": {"attn_kv_heads": 2, "heads": 4, "attn_flash": True},
    "value_dim_head": {"attn_value_dim_head": 5},
    "add_zero_kv": {"attn_add_zero_kv": True},
    "softclamp_logits": {"attn_softclamp_logits": True, "attn_logit_softclamp_value": 3.0},
    "laser": {"attn_laser": True},
    "latent_q": {"attn_use_latent_q": True, "attn_dim_latent_q": 6},
    "latent_kv": {"attn_use_latent_kv": True, "attn_dim_latent_kv": 6},
    "max_attend_past": {"attn_max_attend_past": 3},
    "data_dependent_alibi": {"attn_data_dependent_alibi": True},
    "data_dependent_alibi_per_row": {"attn_data_dependent_alibi": True, "attn_data_dependent_alibi_per_row": True},
    "cope": {"attn_use_cope": True, "attn_cope_max_pos": 5},
}
DECODER_ONLY = {"selective", "max_attend_past", "data_dependent_alibi_per_row", "cope"}
ENCODER_TOO = {
    "plain", "alibi", "t5_bias", "dynamic_bias", "rotary", "shift_tokens", "flash", "mem_kv", "kv_heads", "sparse_topk",
    "talking_heads_both", "residual_attn", "post_norm", "hyper_connections", "sandwich_norm", "value_residual", "qk_norm",
    "sigmoid", "l2_distance", "data_dependent_alibi", "on_attn", "add_zero_kv", "unet_skips",
}
ALONE = [stack(name, **options) for name, options in LAYER_OPTIONS.items()]
ALONE += [stack(f"encoder_{name}", "Encoder", **LAYER_OPTIONS[name]) for name in sorted(ENCODER_TOO)]
ALONE += [
    stack("xpos", rotary_xpos=True, n=13),
    stack("xpos_scale_base", rotary_xpos=True, rotary_xpos_scale_base=64),
    stack("one_token", n=1, attn_sigmoid=True),
    stack("odd_dims", inputs={"x": normal(2, 9, 15)}, dim=15, heads=3, attn_dim_head=5, ff_mult=3),
    stack("head_64", attn_dim_head=None, ff_mult=None),
    stack("adaptive_layernorm", inputs={"condition": normal(2, DIM)}, kwargs={"condition": "condition"}, use_adaptive_layernorm=True),
    stack("adaptive_rmsnorm", inputs={"condition": normal(2, 6)}, kwargs={"condition": "condition"}, use_adaptive_rmsnorm=True, dim_condition=6),
    stack("adaptive_layerscale", inputs={"condition": normal(2, 9, DIM)}, kwargs={"condition": "condition"}, use_adaptive_layernorm=True, use_adaptive_layerscale=True),
    stack("adaptive_mlp", inputs={"condition": normal(2, 6)}, kwargs={"condition": "condition"}, use_adaptive_rmsnorm=True, dim_condition=6, adaptive_condition_mlp=True),
    stack("in_attn_cond", inputs={"c": normal(2, DIM)}, kwargs={"in_attn_cond": "c"}),
]


# ---- masks, contexts, memories: what a call can bring

CAUSAL = torch.ones(9, 9, dtype=torch.bool).tril()
BAND = CAUSAL | torch.ones(9, 9, dtype=torch.bool).triu(1).tril(2)


def constant(tensor):
    return lambda g: tensor.clone()


MASKS = [
    stack("mask", "Encoder", {"mask": lengths(9, 9, 5)}, {"mask": "mask"}),
    stack("mask_scattered", "Encoder", {"mask": values([[True, False, True] * 3, [True] * 4 + [False] * 5], torch.bool)}, {"mask": "mask"}),
    stack("mask_causal", "Decoder", {"mask": lengths(9, 9, 6)}, {"mask": "mask"}),
    stack("mask_t5", "Encoder", {"mask": lengths(9, 7, 9)}, {"mask": "mask"}, rel_pos_bias=True),
    stack("mask_mem_kv", "Encoder", {"mask": lengths(9, 7, 9)}, {"mask": "mask"}, attn_num_mem_kv=2),
    stack("mask_shift_tokens", "Encoder", {"mask": lengths(9, 7, 9)}, {"mask": "mask"}, shift_tokens=1),
    stack("mask_sparse_topk", "Encoder", {"mask": lengths(9, 7, 9)}, {"mask": "mask"}, attn_sparse_topk=2),
    stack("attn_mask", "Encoder", {"m": constant(BAND)}, {"attn_mask": "m"}),
    stack("attn_mask_heads", "Encoder", {"m": constant(torch.stack([BAND, CAUSAL]))}, {"attn_mask": "m"}),
    stack("self_attn_kv_mask", "Encoder", {"m": lengths(9, 8, 4)}, {"self_attn_kv_mask": "m"}),
    stack("self_attn_kv_mask_beside_mask", "Encoder", {"m": lengths(9, 8, 4), "mask": lengths(9, 6, 9)}, {"self_attn_kv_mask": "m", "mask": "mask"}),
    stack("attn_bias", "Encoder", {"bias": normal(2, 9, 9)}, {"attn_bias": "bias"}),
    stack("attn_bias_causal", "Decoder", {"bias": normal(2, 9, 9)}, {"attn_bias": "bias"}),
    stack("pos_rotary", "Decoder", {"pos": values([0, 1, 2, 5, 6, 7, 11, 12, 13], torch.int64)}, {"pos": "pos"}, rotary_pos_emb=True),
    stack("pos_alibi", "Decoder", {"pos": values([0, 1, 2, 5, 6, 7, 11, 12, 13], torch.int64)}, {"pos": "pos"}, alibi_pos_bias=True),
    stack("cross", "Decoder", {"c": normal(2, 5, DIM)}, {"context": "c"}, cross_attend=True),
    stack("cross_two", "Decoder", {"c": normal(2, 5, DIM)}, {"context": "c"}, cross_attend=True, depth=2),
    stack("cross_encoder", "Encoder", {"c": normal(2, 5, DIM)}, {"context": "c"}, cross_attend=True),
    stack("cross_mask", "Decoder", {"c": normal(2, 6, DIM), "m": lengths(6, 6, 2)}, {"context": "c", "context_mask": "m"}, cross_attend=True),
    stack("cross_both_masks", "Encoder", {"c": normal(2, 6, DIM), "m": lengths(6, 6, 2), "mask": lengths(9, 7, 9)}, {"context": "c", "context_mask": "m", "mask": "mask"}, cross_attend=True),
    stack("cross_dim_context", "Decoder", {"c": normal(2, 5, 6)}, {"context": "c"}, cross_attend=True, cross_attn_dim_context=6),
    stack("cross_residual_attn", "Decoder", {"c": normal(2, 5, DIM)}, {"context": "c"}, cross_attend=True, depth=2, cross_residual_attn=True),
    stack("cross_kv_heads", "Decoder", {"c": normal(2, 5, DIM)}, {"context": "c"}, cross_attend=True, cross_attn_one_kv_head=True),
    stack("cross_rotary_context", "Decoder", {"c": normal(2, 5, DIM), "p": values([0, 2, 3, 7, 8], torch.int64)}, {"context": "c", "context_pos": "p"}, cross_attend=True, rotary_pos_emb=True),
    stack("cross_value_residual", "Decoder", {"c": normal(2, 5, DIM)}, {"context": "c"}, cross_attend=True, depth=2, add_value_residual=True, learned_value_residual_mix=False),
    stack("cross_attender", "CrossAttender", {"c": normal(2, 5, DIM)}, {"context": "c"}),
    stack("cross_attender_mask", "CrossAttender", {"c": normal(2, 5, DIM), "m": lengths(5, 3, 5)}, {"context": "c", "context_mask": "m"}, depth=2),
    stack("only_cross", "Decoder", {"c": normal(2, 5, DIM)}, {"context": "c"}, cross_attend=True, only_cross=True),
    stack("return_hiddens", kwargs={"return_hiddens": True}),
    stack("prefix_decoder", "PrefixDecoder", {"p": values([3, 5], torch.int64)}, {"prefix_attn_len": "p"}),
]


# ---- TransformerWrapper

MODELS = [
    model("lm"),
    model("lm_two_layers", depth=2, n=16),
    model("lm_no_abs_pos", wrapper={"use_abs_pos_emb": False}),
    model("lm_scaled_sinu", wrapper={"scaled_sinu_pos_emb": True}),
    model("lm_emb_dim", wrapper={"emb_dim": 10}),
    model("lm_post_emb_norm", wrapper={"post_emb_norm": True}),
    model("lm_l2norm_embed", wrapper={"l2norm_embed": True}),
    model("lm_l2norm_tied", wrapper={"l2norm_embed": True, "tie_embedding": True}),
    model("lm_tie_embedding", wrapper={"tie_embedding": True}),
    model("lm_logits_dim", wrapper={"logits_dim": 7}),
    model("lm_memory_tokens", wrapper={"num_memory_tokens": 3}),
    model("lm_memory_tokens_interspersed", wrapper={"num_memory_tokens": 2, "memory_tokens_interspersed_every": 4}),
    model("lm_memory_tokens_mask", "Encoder", {"mask": lengths(9, 9, 5)}, {"mask": "mask"}, wrapper={"num_memory_tokens": 3}),
    model("lm_only_embed", "Encoder", wrapper={"return_only_embed": True}),
    model("lm_two_heads", wrapper={"num_output_heads": 2}),
    model("lm_emb_frac_gradient", wrapper={"emb_frac_gradient": 0.3}),
    model("lm_recycling", kwargs={"recycle_steps": 3}, wrapper={"recycling": True}),
    model("lm_average_pool", "Encoder", {"mask": lengths(9, 9, 5)}, {"mask": "mask"}, wrapper={"average_pool_embed": True}),
    model("lm_cls_token", "Encoder", {"mask": lengths(9, 9, 5)}, {"mask": "mask"}, wrapper={"use_cls_token": True}),
    model("lm_two_cls_tokens", "Encoder", wrapper={"use_cls_token": True, "num_cls_tokens": 2}),
    model("lm_squeeze", wrapper={"logits_dim": 1, "squeeze_out_last_dim": True}),
    model("lm_mixture_of_softmax", wrapper={"mixture_of_softmax": True, "mixture_of_softmax_k": 3}),
    model("lm_sigsoftmax", wrapper={"sigsoftmax_logits": True}),
    model("lm_embed_ids", inputs={"t": integers(2, 9, high=3)}, kwargs={"embed_ids": {"type": "t"}}, wrapper={"embed_num_tokens": {"type": 3}}),
    model("lm_sum_embeds", inputs={"s": normal(2, 9, DIM)}, kwargs={"sum_embeds": "s"}),
    model("lm_prepend_embeds", inputs={"p": normal(2, 4, DIM)}, kwargs={"prepend_embeds": "p"}),
    model("lm_prepend_masked", "Encoder", {"p": normal(2, 4, DIM), "pm": lengths(4, 3, 4), "mask": lengths(9, 9, 5)}, {"prepend_embeds": "p", "prepend_mask": "pm", "mask": "mask"}),
    model("lm_pos", inputs={"pos": values([0, 1, 2, 5, 6, 7, 11, 12, 13], torch.int64)}, kwargs={"pos": "pos"}),
    model("lm_pos_alibi", inputs={"pos": values([0, 1, 2, 5, 6, 7, 11, 12, 13], torch.int64)}, kwargs={"pos": "pos"}, alibi_pos_bias=True),
    model("lm_pos_vectors", inputs={"pos": normal(9, DIM)}, kwargs={"pos": "pos"}),
    model("lm_logits_and_embeddings", kwargs={"return_logits_and_embeddings": True}),
    model("lm_return_embeddings", kwargs={"return_embeddings": True}),
    model("lm_return_attn", "Encoder", {"mask": lengths(9, 9, 5)}, {"return_attn": True, "mask": "mask"}, depth=2),
    model("lm_return_mems", kwargs={"return_mems": True}, wrapper={"max_mem_len": 5}, depth=2),
    model("lm_mems", inputs={"m0": normal(2, 5, DIM), "m1": normal(2, 5, DIM)}, kwargs={"mems": ["m0", "m1"], "return_mems": True}, wrapper={"max_mem_len": 7}, depth=2),
    model("lm_mems_shifted", inputs={"m0": normal(2, 5, DIM), "m1": normal(2, 5, DIM)}, kwargs={"mems": ["m0", "m1"], "return_mems": True}, wrapper={"max_mem_len": 7, "shift_mem_down": 1}, depth=2),
    model("lm_mems_rotary", inputs={"m0": normal(2, 5, DIM)}, kwargs={"mems": ["m0"]}, wrapper={"max_mem_len": 7}, rotary_pos_emb=True),
    model("lm_mems_t5", inputs={"m0": normal(2, 5, DIM)}, kwargs={"mems": ["m0"]}, wrapper={"max_mem_len": 7}, rel_pos_bias=True),
    model("bert", "Encoder", {"mask": lengths(9, 9, 5)}, {"mask": "mask"}, depth=2),
    model("caption", inputs={"c": normal(2, 5, DIM)}, kwargs={"context": "c"}, cross_attend=True),
]

SMALL_LM = {"class": "TransformerWrapper", "num_tokens": TOKENS, "max_seq_len": LENGTH, "attn_layers": {"class": "Decoder", **layers()}}
ROTARY_LM = {**SMALL_LM, "attn_layers": {"class": "Decoder", **layers(rotary_pos_emb=True)}, "use_abs_pos_emb": False}


def loss(name, net=SMALL_LM, x=integers(2, 10, high=TOKENS), inputs=None, kwargs=None, **options):
    return case(name, "AutoregressiveWrapper", {"net": net, **options}, {"x": x, **(inputs or {})}, kwargs)


def generate(name, net, seq_len, inputs=None, **kwargs):
    inputs = {"prompts": integers(2, 4, high=TOKENS), **(inputs or {})}
    kwargs = {"seq_len": seq_len, "temperature": 0.0, **kwargs}
    return case(name, "AutoregressiveWrapper", {"net": net}, inputs, kwargs, args=["prompts"], method="generate")


def with_ignored(g):
    ids = torch.randint(TOKENS, (2, 10), generator=g)
    ids[0, 7:], ids[1, 4] = -100, -100
    return ids


def xtransformer(name, inputs=None, kwargs=None, tie=False, **options):
    config = {"dim": DIM, "tie_token_emb": tie}
    for side in ("enc", "dec"):
        config |= {f"{side}_num_tokens": TOKENS, f"{side}_max_seq_len": LENGTH, f"{side}_depth": 1, f"{side}_heads": 2, f"{side}_attn_dim_head": 8, f"{side}_ff_mult": 2}
    inputs = {"src": integers(2, 9, high=TOKENS), "tgt": integers(2, 7, high=TOKENS), **(inputs or {})}
    return case(name, "XTransformer", {**config, **options}, inputs, kwargs)


IMAGE = {"image_size": 8, "patch_size": 4}
ENCODER = {"class": "Encoder", **layers()}


def vit(name, inputs=None, kwargs=None, **options):
    config = {**IMAGE, "attn_layers": ENCODER, **options}
    return case(name, "ViTransformerWrapper", config, {"x": normal(2, options.get("channels", 3), 8, 8), **(inputs or {})}, kwargs)


def continuous(name, inputs=None, kwargs=None, wrapper=None, cls="Decoder", **options):
    config = {"dim_in": 5, "dim_out": 4, "max_seq_len": LENGTH, "attn_layers": {"class": cls, **layers(**options)}, **(wrapper or {})}
    return case(name, "ContinuousTransformerWrapper", {k: v for k, v in config.items() if v is not None}, {"x": normal(2, 9, 5), **(inputs or {})}, kwargs)


WRAPPERS = [
    loss("loss"),
    loss("loss_ignored", x=with_ignored),
    loss("loss_pad_value", x=with_ignored, pad_value=3),
    loss("loss_ignore_index", ignore_index=2),
    loss("loss_and_outputs", kwargs={"return_outputs": True}),
    loss("loss_z", add_attn_z_loss=True),
    loss("loss_mixture_of_softmax", {**SMALL_LM, "mixture_of_softmax": True, "mixture_of_softmax_k": 2}),
    generate("greedy", SMALL_LM, 8),
    generate("greedy_uncached", SMALL_LM, 8, cache_kv=False),
    generate("greedy_rotary_past_end", ROTARY_LM, 16),
    generate("greedy_eos", SMALL_LM, 10, eos_token=7),
    generate("greedy_ragged", SMALL_LM, 6, {"lens": values([4, 2], torch.int64)}, prompt_lens="lens"),
    generate("greedy_ragged_rotary", ROTARY_LM, 6, {"lens": values([3, 4], torch.int64)}, prompt_lens="lens"),
    xtransformer("encoder_decoder"),
    xtransformer("encoder_decoder_tied", tie=True),
    xtransformer("encoder_decoder_mask", {"mask": lengths(9, 9, 4)}, {"mask": "mask"}, enc_rotary_pos_emb=True, dec_rotary_pos_emb=True),
    xtransformer("encoder_decoder_prepend", {"p": normal(2, 3, DIM), "mask": lengths(9, 9, 4)}, {"src_prepend_embeds": "p", "mask": "mask"}),
    xtransformer("encoder_decoder_memory_tokens", enc_num_memory_tokens=2),
    xtransformer("encoder_decoder_sinu", enc_scaled_sinu_pos_emb=True, dec_scaled_sinu_pos_emb=True, dec_ff_glu=True),
    vit("vit_classes", num_classes=5),
    vit("vit_embeddings", kwargs={"return_embeddings": True}, num_classes=5),
    vit("vit_no_head"),
    vit("vit_registers", num_classes=5, num_register_tokens=2, post_emb_norm=True),
    vit("vit_one_channel", num_classes=3, channels=1),
    vit("vit_logits_and_embeddings", kwargs={"return_logits_and_embeddings": True}, num_classes=3),
    continuous("continuous"),
    continuous("continuous_counted_nowhere", {"pos": normal(9)}, {"pos": "pos"}, {"use_abs_pos_emb": False}),
    case("lm_positional", "TransformerWrapper", {k: v for k, v in SMALL_LM.items() if k != "class"}, {"x": integers(2, 9, high=TOKENS), "mask": lengths(9, 9, 6)}, args=["x", False, True, False, False, "mask"]),
    continuous("continuous_mask", {"mask": lengths(9, 9, 4)}, {"mask": "mask"}, cls="Encoder"),
    continuous("continuous_no_projections", wrapper={"dim_in": None, "dim_out": None}, inputs={"x": normal(2, 9, DIM)}),
    continuous("continuous_memory_tokens", wrapper={"num_memory_tokens": 2}),
    continuous("continuous_sinu_norm", wrapper={"scaled_sinu_pos_emb": True, "post_emb_norm": True}),
    case(
        "continuous_loss",
        "ContinuousAutoregressiveWrapper",
        {"net": {"class": "ContinuousTransformerWrapper", "dim_in": 5, "dim_out": 5, "max_seq_len": LENGTH, "attn_layers": {"class": "Decoder", **layers()}}},
        {"x": normal(2, 9, 5)},
    ),
    case("filter_top_k", "autoregressive_wrapper.top_k", {}, {"logits": normal(3, 20)}, {"frac_num_tokens": 0.2}),
    case("filter_top_p", "autoregressive_wrapper.top_p", {}, {"logits": normal(3, 20, std=3.0)}, {"thres": 0.8}, frozen={"logits"}),
    case("filter_min_p", "autoregressive_wrapper.min_p", {}, {"logits": normal(3, 20, std=2.0)}, {"min_p": 0.2}),
    case("filter_top_a", "autoregressive_wrapper.top_a", {}, {"logits": normal(3, 20, std=2.0)}, {"min_p_pow": 2.0, "min_p_ratio": 0.3}),
]

# ---- parts on their own

PARTS = [
    case("attention", "Attention", {"dim": DIM, "heads": 2, "dim_head": 8}, {"x": normal(2, 9, DIM)}),
    case("attention_context", "Attention", {"dim": DIM, "heads": 2, "dim_head": 8, "dim_context": 6}, {"x": normal(2, 9, DIM), "c": normal(2, 5, 6)}, {"context": "c"}),
    case("attention_dim_out", "Attention", {"dim": DIM, "heads": 2, "dim_head": 8, "dim_out": 6, "causal": True}, {"x": normal(2, 9, DIM)}),
    case("feed_forward", "FeedForward", {"dim": DIM}, {"x": normal(2, 9, DIM)}),
    case("feed_forward_out", "FeedForward", {"dim": DIM, "dim_out": 5, "mult": 2, "glu": True}, {"x": normal(2, 9, DIM)}),
    case("rms_norm", "RMSNorm", {"dim": DIM}, {"x": normal(2, 9, DIM)}),
    # Options that these take for the sake of others and do not read.
    case("simple_rms_norm", "SimpleRMSNorm", {"dim": DIM, "unit_offset": True}, {"x": normal(2, 9, DIM)}),
    case("gru_gating", "GRUGating", {"dim": DIM, "scale_residual": True, "scale_residual_constant": 1.5}, {"x": normal(2, 9, DIM), "r": normal(2, 9, DIM)}),
    case("adaptive_rms_norm", "AdaptiveRMSNorm", {"dim": DIM, "dim_condition": 6}, {"x": normal(2, 9, DIM), "c": normal(2, 6)}, {"condition": "c"}),
    case("absolute_positions", "AbsolutePositionalEmbedding", {"dim": DIM, "max_seq_len": 12}, {"x": normal(2, 9, DIM)}, frozen={"x"}),
    case("sinusoidal_positions", "ScaledSinusoidalEmbedding", {"dim": DIM}, {"x": normal(2, 9, DIM)}, frozen={"x"}),
]

# ---- combinations drawn at random: options that this pool has at most one of each group

GROUPS = [
    [{}, {"use_rmsnorm": True}, {"use_scalenorm": True}, {"use_simple_rmsnorm": True}],
    [{}, {"rotary_pos_emb": True}, {"rel_pos_bias": True}, {"alibi_pos_bias": True}, {"dynamic_pos_bias": True}, {"rotary_xpos": True}],
    [{}, {"sandwich_norm": True}, {"pre_norm": False}],
    [{}, {"gate_residual": True}, {"scale_residual": True}, {"num_residual_streams": 2}],
    [{}, {"macaron": True}, {"sandwich_coef": 1}, {"weight_tie_layers": True}],
    [{}, {"shift_tokens": 1}],
    [{}, {"residual_attn": True}, {"add_value_residual": True}],
    [{}, {"ff_glu": True, "ff_swish": True}, {"ff_relu_squared": True}, {"ff_glu": True, "ff_no_bias": True}],
    [{}, {"ff_post_act_ln": True}],
    [{}, {"attn_qk_norm": True}, {"attn_softclamp_logits": True}, {"attn_sparse_topk": 4}, {"attn_sigmoid": True}, {"attn_laser": True}],
    [{}, {"attn_pre_talking_heads": True}, {"attn_post_talking_heads": True}, {"attn_head_scale": True}],
    [{}, {"attn_kv_heads": 1}, {"attn_num_mem_kv": 2}, {"attn_add_zero_kv": True}],
    [{}, {"attn_gate_values": True}, {"attn_gate_value_heads": True}, {"attn_on_attn": True}],
    [{}, {"use_layerscale": True}, {"unet_skips": True}, {"reinject_input": True}, {"softclamp_output": True}],
]
WRAPPER_GROUPS = [
    [{}, {"num_memory_tokens": 2}],
    [{}, {"tie_embedding": True}, {"emb_dim": 12}],
    [{}, {"l2norm_embed": True}, {"scaled_sinu_pos_emb": True}, {"post_emb_norm": True}],
]


def combination(number):
    """The options of one combination; which ones depends on its number alone."""
    draw = random.Random(number)

    def pick(groups, chance):
        chosen = {}
        for group in groups:
            if draw.random() < chance:
                chosen |= draw.choice(group[1:])
        return chosen

    causal = draw.random() < 0.6
    options = pick(GROUPS, 0.4)
    if options.get("rotary_xpos") and not causal:
        del options["rotary_xpos"]
    masked = not causal or draw.random() < 0.3
    inputs = {"mask": lengths(9, 9, draw.randint(3, 8))} if masked else {}
    wrapper = pick(WRAPPER_GROUPS, 0.4)
    if "emb_dim" in wrapper and wrapper.get("tie_embedding"):
        del wrapper["emb_dim"]
    return model(
        f"combination_{number:02d}",
        "Decoder" if causal else "Encoder",
        inputs,
        {"mask": "mask"} if masked else {},
        wrapper=wrapper,
        **{"depth": 2, **options},
    )


# Numbers whose options the original refuses together, or that have a gradient which is rounding alone.
REFUSED = {7, 16, 17, 18, 26, 32, 43, 54, 58}
COMBINATIONS = [combination(i) for i in range(60) if i not in REFUSED]

# ---- a module beside attention, and classes that the tables above leave out


def gru(hidden, **options):
    return {"class": "GRU", "input_size": DIM, "hidden_size": hidden, "batch_first": True, **options}


MULTI = {"num_tokens": {"note": 11, "pitch": 7}, "max_seq_len": LENGTH}
XVAL = {"num_tokens": TOKENS, "numerical_token_id": 3, "max_seq_len": LENGTH}
NEO = {"dim_in": 4, "dim_hidden": 3, "dim_out": 2, "dim_model": DIM, "depth": 1}
SHORT_LM = {**SMALL_LM, "max_seq_len": 4, "max_mem_len": 6}
# Of one token: the share of tokens that is masked is drawn, but one always is.
ONE_TOKEN = {"net": {**SMALL_LM, "max_seq_len": 1, "attn_layers": ENCODER}, "mask_id": TOKENS - 1, "no_replace_prob": 0.0, "random_token_prob": 0.0}


def multi(name, cls="Decoder", kwargs=None, inputs=None, wrapper=None, **options):
    inputs = {"note": integers(2, 9, high=11), "pitch": integers(2, 9, high=7), **(inputs or {})}
    config = {**MULTI, "attn_layers": {"class": cls, **layers(**options)}, **(wrapper or {})}
    return case(name, "MultiInputTransformerWrapper", config, inputs, kwargs, args=[{"note": "note", "pitch": "pitch"}])


def with_numbers(g):
    ids = torch.randint(TOKENS, (2, 9), generator=g)
    ids[:, 2], ids[1, 7] = 3, 3
    return ids


def xval(name, kwargs=None, wrapper=None, cls="Decoder", inputs=None, **options):
    config = {**XVAL, "attn_layers": {"class": cls, **layers(**options)}, **(wrapper or {})}
    return case(name, "XValTransformerWrapper", config, {"x": with_numbers, "x_num": normal(2, 9), **(inputs or {})}, kwargs)


def xval_loss(name, kwargs=None, **options):
    net = {"class": "XValTransformerWrapper", **XVAL, "attn_layers": {"class": "Decoder", **layers()}}
    return case(name, "XValAutoregressiveWrapper", {"net": net, **options}, {"x": with_numbers, "x_num": normal(2, 9)}, kwargs)


def continuous_loss(name, inputs=None, kwargs=None, **options):
    net = {"class": "ContinuousTransformerWrapper", "dim_in": 5, "dim_out": 5, "max_seq_len": LENGTH, "attn_layers": {"class": "Decoder", **layers()}}
    return case(name, "ContinuousAutoregressiveWrapper", {"net": net, **options}, {"x": normal(2, 9, 5), **(inputs or {})}, kwargs)


def dpo(name, inputs=None, kwargs=None, **options):
    inputs = {"a": integers(2, 9, high=TOKENS), "b": integers(2, 9, high=TOKENS), "prompt": lengths(9, 3, 2), **(inputs or {})}
    return case(name, "DPO", {"model": SMALL_LM, **options}, inputs, {"prompt_mask": "prompt", **(kwargs or {})}, args=["a", "b"])


BESIDE = [
    stack("hybrid", attn_hybrid_module=gru(16), attn_hybrid_fold_axial_dim=1),
    stack("hybrid_folded", attn_hybrid_module=gru(16), attn_hybrid_fold_axial_dim=4, attn_hybrid_learned_mix=True),
    stack("encoder_hybrid", "Encoder", attn_hybrid_module=gru(8, bidirectional=True, num_layers=2), attn_hybrid_fold_axial_dim=2),
    stack(
        "encoder_hybrid_mask",
        "Encoder",
        {"mask": lengths(9, 9, 5)},
        {"mask": "mask"},
        attn_hybrid_module={"class": "Attention", "dim": DIM, "heads": 2, "dim_head": 4, "dim_out": 16},
        attn_hybrid_fold_axial_dim=1,
        attn_hybrid_mask_kwarg="mask",
    ),
    stack("cross_hybrid", "Decoder", {"c": normal(2, 5, DIM)}, {"context": "c"}, cross_attend=True, cross_attn_hybrid_module=gru(16), cross_attn_hybrid_fold_axial_dim=1),
    stack("cross_data_dependent_alibi", "Decoder", {"c": normal(2, 9, DIM)}, {"context": "c"}, cross_attend=True, cross_attn_data_dependent_alibi=True),
    stack("latent_rope", heads=3, rotary_pos_emb=True, attn_use_latent_kv=True, attn_dim_latent_kv=6, attn_latent_rope_subheads=1),
    case(
        "rotary_given",
        "Decoder",
        layers(),
        {"x": normal(2, 9, DIM), "f": values([[[0.3 * i * (k // 2 + 1) for k in range(4)] for i in range(9)]])},
        {"rotary_pos_emb": ["f", 1.0]},
        frozen={"f"},
    ),
    # Options that do nothing without another one.
    stack("no_effect", attn_swiglu_values=True, attn_qk_norm_dim_scale=True, attn_sparse_topk_straight_through=True, attn_hybrid_learned_mix=True, ff_glu_mult_bias=True, only_cross=True, gate_residual=True, scale_residual_constant=2.0),
    model("lm_own_parts", wrapper={"token_emb": {"class": "Embedding", "num_embeddings": TOKENS, "embedding_dim": DIM}, "to_logits": {"class": "Linear", "in_features": DIM, "out_features": 5}}),
    model("lm_shift_tokens_attn", "Encoder", {"mask": lengths(9, 9, 5)}, {"return_attn": True, "mask": "mask"}, shift_tokens=1),
    multi("multi_input"),
    multi("multi_input_emb_dim", "Encoder", {"mask": "mask"}, {"mask": lengths(9, 9, 5)}, {"emb_dim": 10, "num_memory_tokens": 2, "post_emb_norm": True, "emb_frac_gradient": 0.5}),
    multi("multi_input_embeddings", kwargs={"return_logits_and_embeddings": True}, wrapper={"scaled_sinu_pos_emb": True}),
    xval("xval"),
    xval("xval_tied", {"mask": "mask"}, {"tie_embedding": True, "scaled_sinu_pos_emb": True}, "Encoder", {"mask": lengths(9, 9, 5)}),
    xval("xval_embeddings", {"return_embeddings": True}),
    xval_loss("xval_loss"),
    xval_loss("xval_loss_parts", {"return_loss_breakdown": True}, numerical_loss_weight=0.3, ignore_index=5),
    continuous_loss("continuous_loss_mask", {"mask": lengths(9, 9, 5)}, {"mask": "mask"}),
    continuous_loss("continuous_loss_l1", loss_fn={"class": "L1Loss", "reduction": "none"}),
    case("neo_mlp", "NeoMLP", NEO, {"x": normal(2, 4)}),
    case("neo_mlp_options", "NeoMLP", {**NEO, "encoder_kwargs": {"heads": 2, "attn_dim_head": 8, "use_rmsnorm": True, "attn_qk_norm": True}}, {"x": normal(4)}, {"return_embeds": True}),
    dpo("dpo"),
    dpo("dpo_padded", {"real": lengths(9, 9, 6)}, {"preferred_seq_mask": "real"}, beta=0.4, pad_id=3),
    case("filled_in", "NonAutoregressiveWrapper", ONE_TOKEN, {"x": integers(3, 1, high=TOKENS - 1)}),
    case("filled_in_self_cond", "NonAutoregressiveWrapper", {**ONE_TOKEN, "self_cond": True, "self_cond_train_prob": 1.0, "schedule": "cosine"}, {"x": integers(3, 1, high=TOKENS - 1)}),
    case("segments", "XLAutoregressiveWrapper", {"net": SHORT_LM, "ignore_index": 5}, {"x": integers(2, 11, high=TOKENS)}),
    case("fold_axially", "FoldAxially", {"axial_dim": 3, "fn": {"class": "Linear", "in_features": DIM, "out_features": 5}}, {"x": normal(2, 10, DIM)}),
]

CASES = ALONE + MASKS + MODELS + WRAPPERS + PARTS + BESIDE + COMBINATIONS
