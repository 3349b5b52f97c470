"""The cases of bench_gpu in PyTorch, on one GPU: gpu.py [--compile] [FILTER...]

Every case is run in each of its variants (eager; the same captured as a CUDA graph where that works; with --compile also
torch.compile); the fastest is the one to compare with. Prints a line a variant:

    name                                         variant            ms   peak MB

Times are medians over repetitions of many steps between two synchronisations, as in bench_gpu. peak MB is the most memory that
PyTorch's allocator handed out above what it held before.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

CASES = {}


def case(name, **variants):
    CASES[name] = variants


def measure(step):
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    torch.cuda.synchronize()
    steps = max(1, min(200, int(0.02 / (time.perf_counter() - start))))
    times = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / steps * 1e3)
    return statistics.median(times)


def captured(step):
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def run(name, variant, prepare):
    torch.manual_seed(0)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    try:
        step = prepare()
        ms = measure(step)
        peak = (torch.cuda.max_memory_allocated() - before) / 1e6
        print(f"{name:44} {variant:14} {ms:10.3f} {peak:9.1f}", flush=True)
    except Exception as problem:  # one case must not end the run
        print(f"{name:44} {variant:14} failed: {str(problem).splitlines()[0][:100]}", flush=True)


def both(name, prepare, compiled=None):
    """prepare() returns a step; compiled() one that uses torch.compile."""
    variants = {"eager": prepare, "graph": lambda: captured(prepare())}
    if compiled:
        variants["compile"] = compiled
        variants["compile+graph"] = lambda: captured(compiled())
    CASES[name] = variants


# --- ops --------------------------------------------------------------------------------------------------------------

BF16, FP32 = torch.bfloat16, torch.float32


def rand(*shape, dtype=FP32, grad=True):
    return torch.randn(*shape, device="cuda", dtype=dtype).requires_grad_(grad)


def forward(f, *inputs):
    def step():
        with torch.no_grad():
            f(*inputs)

    return step


def step_of(f, *inputs, upstream=True):
    with torch.no_grad():
        y = f(*inputs)
    gradient = torch.randn_like(y) if upstream and y.dim() else None

    def step():
        for x in inputs:
            if x.is_floating_point():
                x.grad = None
        f(*inputs).backward(gradient)

    return step


def op(name, f, make, kind="step"):
    build = step_of if kind == "step" else forward
    both(name, lambda: build(f, *make()), lambda: build(torch.compile(f), *make()))


for dtype, label in ((BF16, "bf16"), (FP32, "fp32")):
    op(f"add/16x1024x768/{label}/fwd", torch.add, lambda d=dtype: (rand(16, 1024, 768, dtype=d), rand(16, 1024, 768, dtype=d)), "fwd")
    op(f"gelu/16384x3072/{label}/step", F.gelu, lambda d=dtype: (rand(16384, 3072, dtype=d),))
    op(f"layer_norm/16x1024x768/{label}/step", lambda x, w, b: F.layer_norm(x, (768,), w.to(x.dtype), b.to(x.dtype)),
       lambda d=dtype: (rand(16, 1024, 768, dtype=d), rand(768), rand(768)))
    op(f"softmax/16384x1024/{label}/step", lambda x: F.softmax(x, -1), lambda d=dtype: (rand(16384, 1024, dtype=d),))
    op(f"cross_entropy/16384x50257/{label}/step", F.cross_entropy,
       lambda d=dtype: (rand(16384, 50257, dtype=d), torch.randint(0, 50257, (16384,), device="cuda")))
op("linear_cross_entropy/16384x768x50257/bf16/step", lambda x, w, t: F.cross_entropy(F.linear(x, w).float(), t),
   lambda: (rand(16384, 768, dtype=BF16), rand(50257, 768, dtype=BF16), torch.randint(0, 50257, (16384,), device="cuda")))
op("embedding/16384x50257x768/step", lambda ids, w: F.embedding(ids, w),
   lambda: (torch.randint(0, 50257, (16384,), device="cuda"), rand(50257, 768)))
op("cast/16384x3072/fp32_bf16/fwd", lambda x: x.bfloat16(), lambda: (rand(16384, 3072),), "fwd")
op("sum0/16384x768/fp32/fwd", lambda x: x.sum(0), lambda: (rand(16384, 768),), "fwd")
op("matmul/8192x8192x8192/bf16/fwd", torch.matmul, lambda: (rand(8192, 8192, dtype=BF16), rand(8192, 8192, dtype=BF16)), "fwd")
op("linear_gelu/16384x768x3072/bf16/step", lambda x, w, b: F.gelu(F.linear(x, w, b)),
   lambda: (rand(16384, 768, dtype=BF16), rand(3072, 768, dtype=BF16), rand(3072, dtype=BF16)))


def adamw():
    p = [rand(4096, 3072) for _ in range(10)]
    for x in p:
        x.grad = torch.randn_like(x)
    optimizer = torch.optim.AdamW(p, fused=True)
    return optimizer.step


CASES["adamw/126M/step"] = {"eager": adamw}


# --- attention --------------------------------------------------------------------------------------------------------


def attention(d, n, causal, backend, backward):
    def prepare():
        b, h = 16384 // n, 2048 // d
        q, k, v = (rand(b, h, n, d, dtype=BF16) for _ in range(3))
        with sdpa_kernel(backend):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        dy = torch.randn_like(y)

        def fwd():
            with torch.no_grad(), sdpa_kernel(backend):
                F.scaled_dot_product_attention(q, k, v, is_causal=causal)

        def bwd():
            torch.autograd.grad(y, (q, k, v), dy, retain_graph=True)

        return bwd if backward else fwd

    return prepare


for d in (64, 128):
    for n in (1024, 4096, 16384):
        for causal in (True, False):
            for backward in (False, True):
                name = f"attention/{d}/{n}/{'causal' if causal else 'full'}/bf16/{'bwd' if backward else 'fwd'}"
                CASES[name] = {
                    "flash": attention(d, n, causal, SDPBackend.FLASH_ATTENTION, backward),
                    "cudnn": attention(d, n, causal, SDPBackend.CUDNN_ATTENTION, backward),
                }


# --- convolution by FFT -----------------------------------------------------------------------------------------------


def fft_conv(u, k, D):
    n = u.shape[-1]
    spectrum = torch.fft.rfft(u, n=2 * n) * torch.fft.rfft(k, n=2 * n)
    return torch.fft.irfft(spectrum, n=2 * n)[..., :n] + u * D[:, None]


for b, h, n in ((8, 768, 8192), (64, 768, 1024)):
    both(f"fft_conv/{b}x{h}x{n}/fp32/step", lambda b=b, h=h, n=n: step_of(fft_conv, rand(b, h, n), rand(h, n), rand(h)))


# --- models -----------------------------------------------------------------------------------------------------------


class GPT2Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.c_attn, self.c_proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.c_fc, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.c_attn(self.ln_1(x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    def __init__(self, vocab=50257, length=1024, dim=768, depth=12, heads=12):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, dim), nn.Embedding(length, dim)
        self.h = nn.Sequential(*(GPT2Block(dim, heads) for _ in range(depth)))
        self.ln_f = nn.LayerNorm(dim)

    def forward(self, ids, targets):
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        logits = F.linear(self.ln_f(self.h(x)), self.wte.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def training(make, optimise, compile):
    def prepare():
        torch.set_float32_matmul_precision("high")
        model, loss = make()
        if compile:
            loss = torch.compile(loss)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True, capturable=True) if optimise else None

        def step():
            for p in model.parameters():
                p.grad = None
            with torch.autocast("cuda", dtype=BF16):
                value = loss()
            value.backward()
            if optimizer:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

        return step

    return prepare


def model(name, make, optimise):
    both(name, training(make, optimise, False), training(make, optimise, True))


def gpt2_124m():
    net = GPT2().cuda()
    ids, targets = (torch.randint(0, 50257, (16, 1024), device="cuda") for _ in range(2))
    return net, lambda: net(ids, targets)


def flash_transformer(batch, length, **config):
    def make():
        from flash_pytorch import FLASHTransformer
        from flash_pytorch.autoregressive_wrapper import AutoregressiveWrapper

        net = AutoregressiveWrapper(FLASHTransformer(causal=True, **config)).cuda()
        ids = torch.randint(0, config["num_tokens"], (batch, length + 1), device="cuda")
        return net, lambda: net(ids)

    return make


def flash_layer(name, *shape, **config):
    def make():
        import flash_pytorch

        net = getattr(flash_pytorch, name)(dim=512, query_key_dim=128, causal=True, expansion_factor=2.0, laplace_attn_fn=True, **config).cuda()
        x, dy = rand(*shape), torch.randn(*shape, device="cuda")
        return net, lambda: (net(x) * dy).sum()

    return make


def xt_decoder(batch, length):
    def make():
        from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

        layers = Decoder(dim=512, depth=12, heads=8, attn_flash=True)
        net = AutoregressiveWrapper(TransformerWrapper(num_tokens=20000, max_seq_len=1024, attn_layers=layers)).cuda()
        ids = torch.randint(0, 20000, (batch, length + 1), device="cuda")
        return net, lambda: net(ids)

    return make


def xt_decode(dtype):
    """One step writes 256 tokens: 256 over its time are tokens a second."""

    def prepare():
        from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

        torch.set_float32_matmul_precision("high")
        layers = Decoder(dim=512, depth=12, heads=8, attn_flash=True)
        net = AutoregressiveWrapper(TransformerWrapper(num_tokens=256, max_seq_len=1024, attn_layers=layers)).cuda().to(dtype)
        prompt = torch.randint(0, 256, (1, 16), device="cuda")
        return lambda: net.generate(prompt, 256)

    return prepare


def xt_encoder_decoder():
    from x_transformers import XTransformer

    sides = {"num_tokens": 256, "depth": 6, "heads": 8, "max_seq_len": 1024, "attn_flash": True}
    options = {f"{side}_{k}": v for side in ("enc", "dec") for k, v in sides.items()}
    net = XTransformer(dim=512, **options).cuda()
    src, tgt = torch.randint(0, 256, (1, 1024), device="cuda"), torch.randint(0, 256, (1, 1025), device="cuda")
    return net, lambda: net(src, tgt)


def xt_vit():
    from x_transformers import Encoder, ViTransformerWrapper

    layers = Encoder(dim=512, depth=6, heads=8, attn_flash=True)
    net = ViTransformerWrapper(image_size=256, patch_size=32, num_classes=1000, attn_layers=layers).cuda()
    image, label = torch.randn(1, 3, 256, 256, device="cuda"), torch.randint(0, 1000, (1,), device="cuda")
    return net, lambda: F.cross_entropy(net(image), label)


model("train/gpt2_124m/16x1024", gpt2_124m, True)
model("train/xt_512x12/16x1024", xt_decoder(16, 1024), True)
model("step/xt_512x12/1x1024", xt_decoder(1, 1024), False)
case("decode/xt_512x12/1x256/bf16", eager=xt_decode(BF16))
case("decode/xt_512x12/1x256/fp32", eager=xt_decode(FP32))
model("step/xtransformer_512_6+6/1x1024", xt_encoder_decoder, False)
model("step/vit_512x6/256_32", xt_vit, False)
model("train/flash_512x8/16x1024", flash_transformer(16, 1024, num_tokens=256, dim=512, depth=8), True)
model("step/flash_512x12/1x1024", flash_transformer(1, 1024, num_tokens=20000, dim=512, depth=12), False)
model("step/gau_512/1x1024", flash_layer("GAU", 1, 1024, 512), False)
model("step/flash_512/1x1111", flash_layer("FLASH", 1, 1111, 512, group_size=256), False)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--compile", action="store_true", help="torch.compile variants too: minutes of compiling")
    parser.add_argument("filter", nargs="*", help="only cases whose name contains one of these")
    options = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
    print(f"{'case':44} {'variant':14} {'ms':>10} {'peak MB':>9}")
    for name, variants in CASES.items():
        if options.filter and not any(f in name for f in options.filter):
            continue
        for variant, prepare in variants.items():
            if "compile" in variant and not options.compile:
                continue
            run(name, variant, prepare)


if __name__ == "__main__":
    main()
