"""Decoding with x-transformers 2.0.4 on the CPU, float32. `xt.py --threads 2 [FILTER]`.

A step writes 64 tokens after 16, one row, drawn from the likeliest tenth of 256: 64 over its time are tokens a second.
"""

import torch
from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

from timing import main


def decode(dim, depth, heads):
    def prepare():
        layers = Decoder(dim=dim, depth=depth, heads=heads, attn_flash=True)
        net = AutoregressiveWrapper(TransformerWrapper(num_tokens=256, max_seq_len=1024, attn_layers=layers))
        prompt = torch.randint(256, (1, 16))
        return lambda: net.generate(prompt, 64)

    return prepare


main({"decode/xt_512x12/1x64": decode(512, 12, 8), "decode/xt_64x2/1x64": decode(64, 2, 2)})
