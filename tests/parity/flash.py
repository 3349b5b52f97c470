"""Cases of flash-pytorch (Gated Attention Unit and FLASH, arXiv 2202.10447).

Sinusoid and rotary frequencies are rounded to float32 when a module is built, but saved in its state dict and then used
in float64, so that every case holds at the exact bounds once the saved values are loaded. The only float32 step of a
forward pass is the logarithm in the relative-position buckets; its result is an integer.
"""

from dataclasses import replace
from itertools import product

import torch

from case import Case, integers, lengths, normal, scattered, values, zero_rows

DIM, QK, GROUP = 16, 8, 8
ROTARY = {"class": "RotaryEmbedding", "dim": 4}


def name(*parts):
    return "_".join(p for p in parts if p)


def on(flag, word):
    return word if flag else ""


# ---- parts

PARTS = [
    Case("scalenorm", "flash_pytorch.ScaleNorm", {"dim": DIM}, {"x": normal(2, 21, DIM)}),
    Case("scalenorm_odd_flat", "flash_pytorch.ScaleNorm", {"dim": 7}, {"x": normal(5, 7)}),
    Case("scalenorm_4d", "flash_pytorch.ScaleNorm", {"dim": 6}, {"x": normal(2, 3, 4, 6)}),
    # A row of zeros meets the clamp; a large eps makes ordinary rows meet it too.
    Case("scalenorm_zero_row", "flash_pytorch.ScaleNorm", {"dim": DIM}, {"x": zero_rows(normal(2, 9, DIM), 4)}),
    Case("scalenorm_eps", "flash_pytorch.ScaleNorm", {"dim": DIM, "eps": 1.0}, {"x": normal(3, 9, DIM)}),
    Case("sinu", "flash_pytorch.ScaledSinuEmbedding", {"dim": DIM}, {"x": normal(2, 40, DIM)}),
    Case("sinu_one", "flash_pytorch.ScaledSinuEmbedding", {"dim": 6}, {"x": normal(1, 1, 6)}),
    Case("sinu_odd_dim", "flash_pytorch.ScaledSinuEmbedding", {"dim": 7}, {"x": normal(2, 9, 7)}),
    Case("sinu_of_ids", "flash_pytorch.ScaledSinuEmbedding", {"dim": 8}, {"x": integers(2, 11, high=9)}),
    # Long enough for every bucket and past the largest distance; i and j differ.
    Case("t5_causal_long", "flash_pytorch.T5RelativePositionBias", {"scale": 2.0, "causal": True}, {"x": normal(140, 3)}),
    Case("t5_both_long", "flash_pytorch.T5RelativePositionBias", {"scale": 4.0}, {"x": normal(3, 140)}),
    Case("t5_both_tall", "flash_pytorch.T5RelativePositionBias", {"scale": 0.5, "causal": False}, {"x": normal(140, 2)}),
    Case("t5_batched", "flash_pytorch.T5RelativePositionBias", {"scale": 3.0, "causal": True}, {"x": normal(2, 3, 9, 9)}),
    Case(
        "t5_few_buckets",
        "flash_pytorch.T5RelativePositionBias",
        {"scale": 1.0, "causal": False, "num_buckets": 8, "max_distance": 20},
        {"x": normal(2, 35, 35)},
    ),
    Case(
        "t5_odd_buckets_causal",
        "flash_pytorch.T5RelativePositionBias",
        {"scale": 1.5, "causal": True, "num_buckets": 11, "max_distance": 50},
        {"x": normal(2, 33, 33)},
    ),
    Case("offsetscale_one", "flash_pytorch.OffsetScale", {"dim": 9}, {"x": normal(2, 5, 9)}),
    Case("offsetscale_two", "flash_pytorch.OffsetScale", {"dim": 8, "heads": 2}, {"x": normal(2, 3, 5, 8)}),
    Case("offsetscale_four", "flash_pytorch.OffsetScale", {"dim": QK, "heads": 4}, {"x": normal(7, QK)}),
    Case("relu_squared", "flash_pytorch.ReLUSquared", {}, {"x": normal(3, 7, 5, std=2)}),
    Case("laplace", "flash_pytorch.LaplacianAttnFn", {}, {"x": normal(3, 7, 5)}),
    Case("laplace_tails", "flash_pytorch.LaplacianAttnFn", {}, {"x": values([-3.0, -0.5, 0.0, 0.5**0.5, 1.0, 2.0, 4.0])}),
    Case("top_k", "flash_pytorch.top_k", {}, {"logits": normal(3, 40)}),
    Case("top_k_half", "flash_pytorch.top_k", {}, {"logits": normal(2, 9)}, kwargs={"thres": 0.5}),
]

# ---- rotary embedding


def rotary(name, config, inputs, **call):
    return Case(name, "rotary_embedding_torch.RotaryEmbedding", config, inputs, **call)


ROTATE = "rotate_queries_or_keys"
ROTARIES = [
    rotary("rotary_freqs", {"dim": 8}, {"t": values([float(i) for i in range(40)])}, frozen={"t"}),
    rotary("rotary_positions_gradient", {"dim": 6}, {"t": normal(9)}),
    rotary("rotary_all_dims", {"dim": 8}, {"t": normal(2, 21, 8)}, method=ROTATE),
    rotary("rotary_partial", {"dim": 6}, {"t": normal(2, 21, 11)}, method=ROTATE),
    rotary("rotary_heads", {"dim": 8}, {"t": normal(2, 3, 13, 8)}, method=ROTATE),
    rotary("rotary_offset", {"dim": 8}, {"t": normal(2, 13, 8)}, kwargs={"offset": 5}, method=ROTATE),
    rotary("rotary_seq_dim", {"dim": 4}, {"t": normal(2, 13, 3, 6)}, kwargs={"seq_dim": -3}, method=ROTATE),
    rotary("rotary_theta", {"dim": 8, "theta": 500, "theta_rescale_factor": 2.0}, {"t": normal(1, 9, 8)}, method=ROTATE),
    rotary("rotary_interpolate", {"dim": 8, "interpolate_factor": 2.0}, {"t": normal(1, 9, 8)}, method=ROTATE),
    rotary("rotary_pixel", {"dim": 8, "freqs_for": "pixel", "max_freq": 6}, {"t": normal(1, 9, 8)}, method=ROTATE),
    rotary("rotary_constant", {"dim": 4, "freqs_for": "constant", "num_freqs": 2}, {"t": normal(1, 9, 8)}, method=ROTATE),
    rotary("rotary_learned", {"dim": 8, "learned_freq": True}, {"t": normal(2, 9, 10)}, method=ROTATE),
    Case(
        "rotary_apply",
        "rotary_embedding_torch.apply_rotary_emb",
        {},
        {"freqs": normal(9, 4), "t": normal(2, 7, 9)},
        kwargs={"start_index": 2, "scale": 0.5},
    ),
]

# ---- GAU


def gau(case, inputs=None, kwargs=None, **config):
    config = {"dim": DIM, "query_key_dim": QK} | config
    inputs = inputs or {"x": normal(2, 21, config["dim"])}
    return Case(f"gau_{case}", "flash_pytorch.GAU", config, inputs, kwargs=kwargs or {})


GAUS = [
    gau(
        name(on(causal, "causal"), "laplace" if laplace else "relu2", "residual" if residual else "plain", on(mask, "mask")),
        {"x": normal(2, 11, DIM)} | ({"mask": lengths(11, 7, 11)} if mask else {}),
        {"mask": "mask"} if mask else {},
        causal=causal,
        laplace_attn_fn=laplace,
        add_residual=residual,
        expansion_factor=1.5,
    )
    for causal, laplace, residual, mask in product([False, True], repeat=4)
] + [
    gau("defaults", {"x": normal(1, 5, 6)}, dim=6, query_key_dim=128),
    gau("documented", dim=DIM, query_key_dim=QK, causal=True, expansion_factor=2, laplace_attn_fn=True),
    gau("length_1", {"x": normal(3, 1, DIM)}, causal=True, laplace_attn_fn=True),
    gau("length_40", {"x": normal(1, 40, DIM)}, query_key_dim=7),
    gau("bias_flag", causal=True, rel_pos_bias=True),
    gau("dropout_0", dropout=0.0, laplace_attn_fn=True),
    gau("odd_dims", dim=13, query_key_dim=5, expansion_factor=2.3),
    gau("scalenorm", norm_klass="ScaleNorm"),
    gau("layernorm_causal", norm_klass="LayerNorm", causal=True),
    gau("scattered_mask", {"x": normal(3, 21, DIM), "mask": scattered(3, 21)}, {"mask": "mask"}, laplace_attn_fn=True),
    gau("masked_row", {"x": normal(3, 9, DIM), "mask": lengths(9, 9, 0, 4)}, {"mask": "mask"}, laplace_attn_fn=True),
    gau(
        "extra_bias",
        {"x": normal(2, 21, DIM), "bias": normal(21, 21, std=9)},
        {"rel_pos_bias": "bias"},
        laplace_attn_fn=True,
    ),
    gau(
        "extra_bias_per_row_mask",
        {"x": normal(2, 9, DIM), "bias": normal(2, 9, 9, std=9), "mask": lengths(9, 4, 9)},
        {"rel_pos_bias": "bias", "mask": "mask"},
        causal=True,
        add_residual=False,
    ),
]

# ---- FLASH


def flash(case, n=21, batch=2, mask=None, **config):
    config = {"dim": DIM, "group_size": GROUP, "query_key_dim": QK} | config
    inputs = {"x": normal(batch, n, config["dim"])} | ({"mask": mask} if mask else {})
    return Case(f"flash_{case}", "flash_pytorch.FLASH", config, inputs, kwargs={"mask": "mask"} if mask else {})


def layer_options():
    """Every combination of the switches; lengths, masks, norms and rotary take turns."""
    n = [21, 16, 5, 8, 27, 1]
    rows = product([False, True], [False, True], [False, True], [False, True])
    for i, (causal, laplace, shift, reduce) in enumerate(rows):
        length = n[i % len(n)]
        yield flash(
            name(
                "causal" if causal else "both",
                "laplace" if laplace else "relu2",
                on(shift, "shift"),
                "reduced" if reduce else "grouped",
                f"n{length}",
            ),
            n=length,
            mask=lengths(length, length, (length + 1) // 2) if i % 4 in (1, 2) else None,
            causal=causal,
            laplace_attn_fn=laplace,
            shift_tokens=shift,
            reduce_group_non_causal_attn=reduce,
            expansion_factor=1.5,
            norm_klass=["LayerNorm", "ScaleNorm"][i % 3 == 0],
            **({"rotary_pos_emb": ROTARY} if i % 2 else {}),
        )


FLASHES = list(layer_options()) + [
    flash("defaults", n=11, dim=6, group_size=256, query_key_dim=128, batch=1),
    flash("documented", n=37, batch=1, causal=True, expansion_factor=2.0, laplace_attn_fn=True),
    flash("dropout_0", dropout=0.0),
    flash("odd_dims_shift", dim=13, query_key_dim=7, expansion_factor=2.3, shift_tokens=True),
    flash("odd_group", n=23, group_size=7, causal=True, shift_tokens=True),
    flash("group_1", n=5, group_size=1, causal=True, laplace_attn_fn=True),
    flash("group_of_length", n=16, group_size=16, causal=True),
    flash("below_group", n=5, group_size=16, laplace_attn_fn=True),
    flash("many_groups_causal", n=40, group_size=4, causal=True, mask=lengths(40, 40, 17)),
    flash("many_groups_grouped", n=40, group_size=4, reduce_group_non_causal_attn=False, mask=lengths(40, 22, 40)),
    flash("mask_without_padding", n=24, mask=lengths(24, 24, 7), laplace_attn_fn=True, rotary_pos_emb=ROTARY),
    flash("scattered_mask", n=21, batch=3, mask=scattered(3, 21), laplace_attn_fn=True, shift_tokens=True),
    flash("scattered_mask_causal", n=21, batch=3, mask=scattered(3, 21), causal=True, laplace_attn_fn=True),
    flash("masked_row", n=11, batch=3, mask=lengths(11, 11, 0, 4), laplace_attn_fn=True),
    flash("masked_row_causal", n=11, batch=3, mask=lengths(11, 0, 11, 3), causal=True, rotary_pos_emb=ROTARY),
    flash("rotary_all_dims", causal=True, rotary_pos_emb={"class": "RotaryEmbedding", "dim": QK}),
    flash("rotary_learned", rotary_pos_emb={"class": "RotaryEmbedding", "dim": 4, "learned_freq": True}),
    flash("rotary_theta", causal=True, rotary_pos_emb={"class": "RotaryEmbedding", "dim": 4, "theta": 100}),
]

# ---- models

MODEL = {"num_tokens": 23, "dim": 12, "depth": 1, "group_size": GROUP, "query_key_dim": QK}


def model(case, n=19, batch=2, mask=None, **config):
    config = MODEL | config
    inputs = {"x": integers(batch, n, high=config["num_tokens"])} | ({"mask": mask} if mask else {})
    kwargs = {"mask": "mask"} if mask else {}
    return Case(f"transformer_{case}", "flash_pytorch.FLASHTransformer", config, inputs, kwargs=kwargs)


MODELS = [
    model("defaults", n=9, group_size=256, query_key_dim=128, dim=8),
    model("causal", causal=True, depth=2),
    model("causal_laplace_mask", causal=True, laplace_attn_fn=True, mask=lengths(19, 19, 8)),
    model("both_mask", mask=lengths(19, 10, 19)),
    model("both_grouped", reduce_group_non_causal_attn=False, laplace_attn_fn=True),
    model("layernorm", norm_type="layernorm", causal=True),
    model("layernorm_no_shift", norm_type="layernorm", shift_tokens=False, mask=lengths(19, 19, 5)),
    model("scalenorm_no_shift", norm_type="scalenorm", shift_tokens=False, causal=True),
    model("dropout_0", attn_dropout=0.0, expansion_factor=1.5),
    model("rotary_on_32", query_key_dim=36, causal=True, laplace_attn_fn=True),
    model(
        "depth_3", n=33, depth=3, causal=True, dim=16, expansion_factor=1.0, laplace_attn_fn=True, norm_type="layernorm"
    ),
    model("length_1", n=1, batch=3, causal=True),
    model("masked_row", n=11, batch=3, mask=lengths(11, 11, 0, 4), laplace_attn_fn=True),
]

WRAPPED = MODEL | {"class": "FLASHTransformer", "causal": True}


def wrapper(case, inputs, net=None, **call):
    config = {"net": WRAPPED | (net or {})} | call.pop("config", {})
    return Case(f"autoregressive_{case}", "flash_pytorch.AutoregressiveWrapper", config, inputs, **call)


# The label of the last place alone may hold the ignored index: it is never an input.
LAST_IGNORED = [[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, -100]]
GREEDY = 0.95  # keeps int(0.05 * 23) = 1 logit, so that sampling is deterministic

WRAPPERS = [
    wrapper("loss", {"x": integers(2, 20, high=23)}),
    wrapper("loss_laplace_layernorm", {"x": integers(3, 9, high=23)}, {"laplace_attn_fn": True, "norm_type": "layernorm"}),
    wrapper("loss_pad_value", {"x": integers(2, 14, high=23)}, config={"pad_value": 5}),
    wrapper("loss_mask", {"x": integers(2, 20, high=23), "mask": lengths(19, 19, 12)}, kwargs={"mask": "mask"}),
    wrapper("loss_ignored", {"x": values(LAST_IGNORED, torch.int64)}),
    wrapper(
        "generate",
        {"x": integers(2, 5, high=23)},
        kwargs={"seq_len": 12, "filter_thres": GREEDY, "temperature": 0.7},
        method="generate",
    ),
    wrapper(
        "generate_laplace",
        {"x": integers(3, 9, high=23)},
        {"laplace_attn_fn": True, "depth": 2},
        args=["x", 7],
        kwargs={"filter_thres": GREEDY},
        method="generate",
    ),
]

# Sums of few terms: one disturbance says little about what another rounding does to them.
CASES = [replace(case, roundings=6) for case in PARTS + ROTARIES + GAUS + FLASHES + MODELS + WRAPPERS]
