#!/usr/bin/env python3
"""Makes the parity cases: `generate.py --out tests/parity/cases [FILTER]`.

Runs the original packages (requirements.txt) on the CPU in float64 and writes one file a case, DIR/SYSTEM/NAME.safetensors.
With --load DIR instead of --out, the originals load (strictly) the weights that `weft_parity --save DIR` wrote.
A new system is one more table, a list of rows called CASES in a file of its own; a new case is one more row.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import load_file

import flash
import gpt2
import xt
from case import construct, run, write

SYSTEMS = {"flash": flash.CASES, "gpt2": gpt2.CASES, "xt": xt.CASES}

# Where cases that half precision cannot hold go to a folder of their own, SYSTEM_exact: those that a rounding moves by
# this much. Of FLASH's, six disturbances are seen, and the limit is the runner's bound; of the others' one.
SPLIT = {"flash": 0.03, "xt": 0.018}


def load(case, path):
    """Has the original take the weights in a file, each under its name and no other; says whether there were any."""
    module = construct(case)
    if module is None:
        return False
    module.load_state_dict(load_file(path), strict=True)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--load", type=Path, metavar="DIR")
    parser.add_argument("--list", action="store_true", help="print the names only")
    parser.add_argument("filter", nargs="?", default="", help="make only cases whose SYSTEM/NAME contains this")
    options = parser.parse_args()
    if not (options.out or options.load or options.list):
        parser.error("give --out, --load or --list")
    torch.set_num_threads(1)  # sums in one order

    total, count = 0, 0
    for system, cases in SYSTEMS.items():
        repeated = [name for name, n in Counter(c.name for c in cases).items() if n > 1]
        if repeated:
            sys.exit(f"{system}: two cases called {', '.join(repeated)}")
        for case in cases:
            name = f"{system}/{case.name}"
            if options.filter not in name:
                continue
            if options.list:
                print(name)
                continue
            if options.load:
                count += load(case, options.load / f"{case.name}.safetensors")
                continue
            tensors, metadata, sensitivity = run(case)
            if system in SPLIT and (case.discrete or sensitivity >= SPLIT[system]):
                name = f"{system}_exact/{case.name}"
            size = write(options.out / f"{name}.safetensors", tensors, metadata)
            print(f"{size:8d}  {sensitivity:.1e}  {name}")
            total, count = total + size, count + 1
    if options.load:
        print(f"{count} modules loaded")
    elif not options.list:
        print(f"{count} cases, {total} bytes")


if __name__ == "__main__":
    main()
