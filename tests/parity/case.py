"""A parity case: build a module of an original package, run it forward and backward, write what it computed.

Nothing here knows a package: a row of a table (flash.py, ...) names the class, its options, its inputs and its call.
The file holds, beside the usual safetensors header and data,

    __metadata__  module, config, call, dtype, tolerance, package: strings, the middle four JSON; softmax: "exact" where the
                  original was made to take its softmax in float64
    param.NAME    every entry of state_dict()            in.NAME      every input
    out.I         every tensor that the call returned    gout.I       the upstream gradient given to out.I
    gin.NAME      gradient of a floating input           gparam.NAME  gradient of a parameter
"""

import importlib
import inspect
import json
import math
import pkgutil
import struct
import zlib
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from unittest import mock

import torch
from torch import nn

# Bounds on |got - want| / (|want| + 1e-12) per tensor.
EXACT = {"out": 1e-9, "gin": 1e-8, "gparam": 1e-8}
# For an original that rounds to float32 on the way, even when its weights are float64.
SINGLE = {"out": 1e-6, "gin": 1e-5, "gparam": 1e-5}

# Options that take a class rather than a module; JSON holds the class's name.
CLASS_OPTIONS = {"norm_klass"}


def names_in(value):
    """The inputs that an argument of a call names."""
    if isinstance(value, str):
        return [value]
    items = value if isinstance(value, list) else value.values() if isinstance(value, dict) and value.keys() != {"py"} else []
    return [name for item in items for name in names_in(item)]


@dataclass
class Case:
    name: str
    module: str  # "package.Class" or "package.function"
    config: dict  # keyword arguments of the constructor; a nested module is {"class": ..., options}
    inputs: dict  # name -> maker of a tensor, from the functions below
    kwargs: dict = field(default_factory=dict)  # of the call: a string names an input, {"py": s} is the string s
    args: list | None = None  # of the call; every input that kwargs does not name, when unset
    method: str = "forward"  # of the module
    tolerance: dict = field(default_factory=lambda: EXACT)
    frozen: set = field(default_factory=set)  # floating inputs that want no gradient
    distribution: str = ""  # name on PyPI, when it is not the package's with dashes
    double_float: bool = False  # the original calls .float() on the way: have that give float64
    attempts: int = 100  # draws to choose from
    roundings: int = 1  # times that each draw is disturbed; the worst counts
    discrete: bool = False  # numbers are compared on the way: a rounding can change which comes first
    exact_softmax: bool = False  # the original asks for a softmax in float32: have it taken in the tensor's own dtype

    @property
    def call(self):
        named = set(names_in(list(self.kwargs.values())))
        args = [n for n in self.inputs if n not in named] if self.args is None else self.args
        call = {"args": args, "kwargs": self.kwargs}
        return call if self.method == "forward" else call | {"method": self.method}


# ---- inputs: each returns a function from a generator to a tensor


def normal(*shape, std=1.0):
    return lambda g: std * torch.randn(shape, generator=g, dtype=torch.float64)


def values(data, dtype=torch.float64):
    return lambda g: torch.tensor(data, dtype=dtype)


def integers(*shape, high):
    return lambda g: torch.randint(high, shape, generator=g)


def lengths(n, *real):
    """A mask [len(real), n] that is true on the first real[i] places of row i."""
    return lambda g: torch.arange(n) < torch.tensor(real)[:, None]


def scattered(*shape, keep=0.6):
    return lambda g: torch.rand(shape, generator=g) < keep


def zero_rows(make, *rows):
    """make's tensor with the given rows of dimension -2 set to zero."""

    def made(g):
        t = make(g)
        t[..., list(rows), :] = 0
        return t

    return made


# ---- building


def resolve(package, name):
    """The class or function called name: in the package itself, or in whichever submodule has it."""
    *path, leaf = name.split(".")
    root = importlib.import_module(path[0] if path else package)
    if hasattr(root, leaf):
        return getattr(root, leaf)
    for info in pkgutil.walk_packages(getattr(root, "__path__", []), root.__name__ + "."):
        try:
            submodule = importlib.import_module(info.name)
        except ImportError:
            continue  # an optional part whose own dependency is not installed
        if hasattr(submodule, leaf):
            return getattr(submodule, leaf)
    if package != "torch.nn" and hasattr(nn, leaf):
        return getattr(nn, leaf)
    raise LookupError(f"{package} has no {name}")


def build(package, value, key=""):
    if key in CLASS_OPTIONS:
        return resolve(package, value)
    if isinstance(value, dict) and "class" in value:
        options = {k: build(package, v, k) for k, v in value.items() if k != "class"}
        return resolve(package, value["class"])(**options)
    if isinstance(value, list):
        return [build(package, v) for v in value]
    return value


def randomise(module, g):
    """Moves every trainable parameter away from its initial value, so that a forgotten gain, bias or offset shows."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            if not p.requires_grad:
                continue
            leaf = name.rsplit(".", 1)[-1]
            if leaf in ("gamma", "beta"):  # start at a tiny std or at zero; attention would be almost constant
                std = 0.5
            elif p.ndim < 2:
                std = 0.2
            else:
                std = 0.5 * p.shape[-1] ** -0.5
            p.add_(std * torch.randn(p.shape, generator=g, dtype=p.dtype))


# ---- running


def softmax_of_its_own_dtype(x, dim=None, _stacklevel=3, dtype=None):
    return torch.softmax(x, dim)


@contextmanager
def in_float64(case):
    """What the original does in float32 on the way, done in float64, where the case asks for it."""
    with ExitStack() as stack:
        if case.double_float:
            stack.enter_context(mock.patch.object(torch.Tensor, "float", torch.Tensor.double))
        if case.exact_softmax:
            stack.enter_context(mock.patch.object(torch.nn.functional, "softmax", softmax_of_its_own_dtype))
        yield


def flat(result):
    """The tensors of a result in order: lists and dictionaries are opened, None and other objects are skipped."""
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (tuple, list)):
        return [t for item in result for t in flat(item)]
    return [result] if isinstance(result, torch.Tensor) else []


def construct(case):
    """The module of a case, in float64 and evaluation mode (unless its config says training); None for a function."""
    if not inspect.isclass(resolve(case.module.split(".")[0], case.module)):
        return None
    softmax = mock.patch.object(torch.nn.functional, "softmax", softmax_of_its_own_dtype) if case.exact_softmax else nullcontext()
    with softmax:
        module = build(case.module.split(".")[0], {"class": case.module, **case.config}).double()
    return module.train(case.config.get("training", False))


def evaluate(case, attempt, rounding=0.0, noise_seed=0):
    """The case's tensors. attempt chooses the seeds; rounding disturbs weights, inputs, what every submodule returns, and
    the gradients that come back there, by up to that relative amount each, as noise_seed has it."""
    package = case.module.split(".")[0]
    seed = f"{case.name} {attempt}" if attempt else case.name
    torch.manual_seed(zlib.crc32(seed.encode()))  # what the constructor draws
    g = torch.Generator().manual_seed(zlib.crc32(f"inputs of {seed}".encode()))
    noise = torch.Generator().manual_seed(noise_seed)

    def disturbed(t):
        if not rounding or not t.is_floating_point():
            return t
        return t * (1 + rounding * (2 * torch.rand(t.shape, generator=noise, dtype=t.dtype) - 1))

    def disturbed_result(submodule, args, result):
        if not isinstance(result, torch.Tensor):
            return None  # left as it is
        result = disturbed(result)
        if result.requires_grad:
            result.register_hook(disturbed)
        return result

    target = resolve(package, case.module)
    module, hooks = construct(case), []
    if module is not None:
        randomise(module, g)
        if rounding:
            hooks = [submodule.register_forward_hook(disturbed_result) for submodule in module.modules()]
            with torch.no_grad():
                for p in module.parameters():
                    if p.requires_grad:
                        p.copy_(disturbed(p))

    inputs = {name: disturbed(make(g)) for name, make in case.inputs.items()}
    for name, t in inputs.items():
        t.requires_grad_(t.is_floating_point() and name not in case.frozen)

    def literal(v):
        if isinstance(v, str):
            return inputs[v]
        if isinstance(v, list):
            return [literal(item) for item in v]
        if isinstance(v, dict):
            return v["py"] if v.keys() == {"py"} else {key: literal(item) for key, item in v.items()}
        return v

    function = target if module is None else getattr(module, case.method)
    with in_float64(case):
        result = function(*map(literal, case.call["args"]), **{k: literal(v) for k, v in case.kwargs.items()})
    outputs = flat(result)

    differentiable = [i for i, t in enumerate(outputs) if t.requires_grad]
    upstream = {i: torch.randn(outputs[i].shape, generator=g, dtype=outputs[i].dtype) for i in differentiable}
    upstream = {i: disturbed(t) for i, t in upstream.items()}
    if differentiable:
        torch.autograd.backward([outputs[i] for i in differentiable], list(upstream.values()))
    for hook in hooks:  # a default argument of an original can be a module that outlives this one
        hook.remove()

    tensors = {}
    if module is not None:
        tensors |= {f"param.{n}": t for n, t in module.state_dict().items()}
    tensors |= {f"in.{n}": t for n, t in inputs.items()}
    for i, t in enumerate(outputs):
        tensors[f"out.{i}"] = t
        if i in upstream:
            tensors[f"gout.{i}"] = upstream[i]
    tensors |= {f"gin.{n}": t.grad for n, t in inputs.items() if t.grad is not None}
    if module is not None:
        tensors |= {f"gparam.{n}": p.grad for n, p in module.named_parameters() if p.grad is not None}
    for name, t in tensors.items():
        if t.is_floating_point() and torch.isnan(t).any():
            raise ValueError(f"{case.name}: the original gives NaN in {name}; no case can be made of it")
    return {name: t.detach() for name, t in tensors.items()}


BFLOAT16 = 2.0**-8  # spacing of its numbers above 1
WELL_CONDITIONED = 0.01


def sensitivity(case, attempt, tensors, limit):
    """The largest relative change of an output or gradient when everything that goes in changes by a rounding of
    bfloat16. A sum that nearly cancels changes a lot, and would say nothing about a run in half precision. From limit on it is not
    looked at further."""
    worst = 0.0
    for noise_seed in range(case.roundings):
        for name, t in evaluate(case, attempt, BFLOAT16, noise_seed).items():
            if name.startswith(("out.", "gin.", "gparam.")):
                want = torch.nan_to_num(tensors[name].double(), posinf=0, neginf=0)
                got = torch.nan_to_num(t.double(), posinf=0, neginf=0)
                worst = max(worst, ((got - want).norm() / (want.norm() + 1e-12)).item())
        if worst >= limit:
            break
    return worst


def run(case):
    """The case's tensors and metadata, ready to be written: the first of several draws that is well conditioned."""
    best = None
    for attempt in range(case.attempts):
        tensors = evaluate(case, attempt)
        found = sensitivity(case, attempt, tensors, best[0] if best else math.inf)
        if best is None or found < best[0]:
            best = found, tensors
        if found < WELL_CONDITIONED:
            break
    tensors = best[1]

    distribution = case.distribution or case.module.split(".")[0].replace("_", "-")
    metadata = {
        "module": case.module,
        "config": json.dumps(case.config),
        "call": json.dumps(case.call),
        "dtype": "float64",
        "tolerance": json.dumps(case.tolerance),
        "package": f"{distribution}=={version(distribution)}",
    }
    if case.exact_softmax:
        metadata["softmax"] = "exact"  # the runner need not round as the original does
    return tensors, metadata, best[0]


# ---- writing

NAMES = {torch.float64: "F64", torch.float32: "F32", torch.int64: "I64", torch.bool: "BOOL"}


def write(path, tensors, metadata):
    """A safetensors file. Tensors keep their order (the packaged writer's is not the same in every run), so that
    making a case again gives the same bytes."""
    header, chunks, at = {"__metadata__": metadata}, [], 0
    for name, t in tensors.items():
        data = t.detach().contiguous().numpy().tobytes()
        header[name] = {"dtype": NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + len(data)]}
        chunks.append(data)
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))
    return 8 + len(text) + at
