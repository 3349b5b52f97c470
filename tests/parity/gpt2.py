"""Cases of GPT-2 as transformers has it, whose names and layouts are those of the published checkpoints."""

from case import Case, integers


def config(**options):
    base = {"vocab_size": 40, "n_positions": 24, "n_embd": 16, "n_layer": 2, "n_head": 2}
    return {"config": {"class": "GPT2Config", **base, **options}}


def case(name, batch, length, **options):
    kwargs = {"use_cache": False, "return_dict": False}
    return Case(name, "transformers.GPT2Model", config(**options), {"input_ids": integers(batch, length, high=40)}, kwargs)


CASES = [
    case("two_layers", 2, 13),
    case("full_length", 1, 24, n_layer=1),
    case("four_heads_eps", 3, 7, n_head=4, layer_norm_epsilon=1e-3),
    case("one_token", 2, 1),
]
