"""flash-pytorch 0.1.9 on the CPU, float32. `flash.py --threads 2 [FILTER]`.

A model's step is forward, loss, backward, clipping by norm and Adam; a layer's is forward and backward.
"""

import torch
from flash_pytorch import FLASH, GAU, FLASHTransformer
from flash_pytorch.autoregressive_wrapper import AutoregressiveWrapper

from timing import main


def layer(make, *shape):
    def prepare():
        module, x, upstream = make(), torch.randn(shape, requires_grad=True), torch.randn(shape)

        def run():
            x.grad = None
            module.zero_grad()
            module(x).backward(upstream)

        return run

    return prepare


def model(batch, length, **config):
    def prepare():
        net = FLASHTransformer(num_tokens=256, causal=True, **config)
        net = AutoregressiveWrapper(net)
        tokens = torch.randint(256, (batch, length + 1))
        adam = torch.optim.Adam(net.parameters(), lr=2e-4)

        def run():
            net(tokens).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            adam.step()
            adam.zero_grad()

        return run

    return prepare


DOCUMENTED = {"dim": 512, "query_key_dim": 128, "causal": True, "expansion_factor": 2.0, "laplace_attn_fn": True}

main(
    {
        "gau/512/1x1024/step": layer(lambda: GAU(**DOCUMENTED), 1, 1024, 512),
        "flash/512/1x1111/step": layer(lambda: FLASH(group_size=256, **DOCUMENTED), 1, 1111, 512),
        # The default group of 256 pads 64 places to 256; a group of 64 does not.
        "flash_transformer/64x2/1x64/step": model(1, 64, dim=64, depth=2),
        "flash_transformer/64x2_group64/1x64/step": model(1, 64, dim=64, depth=2, group_size=64),
        "flash_transformer/512x8/1x1024/step": model(1, 1024, dim=512, depth=8),
    }
)
