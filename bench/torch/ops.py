"""The ops in PyTorch on the CPU, float32: forward and backward to every input. `ops.py --threads 2 [FILTER]`."""

import torch
import torch.nn.functional as F

from timing import main


def step(function, *inputs):
    """One forward and backward; the upstream gradient is made once, outside the timing."""
    for x in inputs:
        if x.is_floating_point():
            x.requires_grad_()
    upstream = torch.randn_like(function(*inputs).detach())

    def run():
        for x in inputs:
            x.grad = None
        function(*inputs).backward(upstream)

    return run


def forward(function, *inputs):
    def run():
        with torch.no_grad():
            function(*inputs)

    return run


def fft_conv(u, k):  # u: [b, h, n], k: [h, n] -> [b, h, n], causal
    n = u.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(u, 2 * n) * torch.fft.rfft(k, 2 * n), 2 * n)[..., :n]


def randn(*shape):
    return torch.randn(*shape)


def attention(causal):
    return lambda: step(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal),
        *(randn(1, 8, 1024, 64) for _ in range(3)),
    )


def layer_norm(rows, dim):
    return lambda: step(lambda x, w, b: F.layer_norm(x, (dim,), w, b), randn(rows, dim), randn(dim), randn(dim))


def cross_entropy(rows, classes):
    labels = lambda: torch.randint(classes, (rows,))
    return lambda: step(F.cross_entropy, randn(rows, classes), labels())


main(
    {
        "matmul/1024x1024x1024/fwd": lambda: forward(torch.matmul, randn(1024, 1024), randn(1024, 1024)),
        "matmul/1024x1024x1024/step": lambda: step(torch.matmul, randn(1024, 1024), randn(1024, 1024)),
        "matmul/8x256x256x64/step": lambda: step(torch.matmul, randn(8, 256, 64), randn(8, 64, 256)),
        "linear_gelu/1024x512x2048/step": lambda: step(
            lambda x, w, b: F.gelu(F.linear(x, w, b)), randn(1024, 512), randn(2048, 512), randn(2048)
        ),
        "attention/1x8x1024x64/step": attention(False),
        "attention_causal/1x8x1024x64/step": attention(True),
        "layer_norm/1024x512/step": layer_norm(1024, 512),
        "layer_norm/16384x768/step": layer_norm(16384, 768),
        "softmax/8192x1024/step": lambda: step(lambda x: F.softmax(x, -1), randn(8192, 1024)),
        "cross_entropy/1024x256/step": cross_entropy(1024, 256),
        "cross_entropy/1024x20000/step": cross_entropy(1024, 20000),
        "fft_conv/8x256x1024/step": lambda: step(fft_conv, randn(8, 256, 1024), randn(256, 1024)),
    }
)
