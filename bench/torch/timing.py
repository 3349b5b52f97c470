"""Timing shared by the PyTorch side of the benchmarks.

Every case runs in a process of its own, so that its peak memory is its own, and prints one JSON line:

    {"name": "softmax/8192x1024/step", "median_ms": 1.2, "min_ms": 1.1, "runs": 40, "peak_mb": 96.1}

`name` is the contract with the C++ programs of the same folder. `peak_mb` is the process's peak resident memory above
what it held before the case built anything (so the libraries themselves do not count).
"""

import argparse
import json
import os
import statistics
import sys
import time

import torch


def resident_mb(key):
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {key} in /proc/self/status")


def measure(name, prepare, seconds):
    x = torch.ones(256, 256, requires_grad=True)
    (x @ x).sum().backward()  # starts the thread pools and pages the libraries in
    before = resident_mb("VmRSS")
    step = prepare()
    for _ in range(3):
        step()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    return {
        "name": name,
        "median_ms": round(statistics.median(times), 4),
        "min_ms": round(min(times), 4),
        "runs": len(times),
        "peak_mb": round(resident_mb("VmHWM") - before, 1),
    }


def main(cases):
    """cases: {name: function that builds the case and returns one step of it}."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0, help="of measuring, a case")
    parser.add_argument("filter", nargs="?", default="", help="run only the cases whose name contains this")
    options = parser.parse_args()
    failed = False
    for name, prepare in cases.items():
        if options.filter not in name:
            continue
        sys.stdout.flush()
        child = os.fork()  # before this process ever computes: its thread pool does not exist yet
        if child == 0:
            torch.set_num_threads(options.threads)
            torch.manual_seed(0)
            print(json.dumps(measure(name, prepare, options.seconds)), flush=True)
            os._exit(0)
        failed |= os.waitpid(child, 0)[1] != 0
    sys.exit(failed)
