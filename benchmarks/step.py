"""How near does the generator's training step come to the limit of its matrix products?

    python benchmarks/step.py [--out benchmarks/step.csv] [--repeats 9] [--threads 1 2]

Forward and backward of a transfer, four excerpts of 1.05 s at once, half width, with the package's weights.
The limit is what the step's bare matrix products take in PyTorch, one after the other: each product of the
forward pass, and for the backward pass two of the same size, for the gradients of its two factors. A
convolution counts as the product that it is. Limit and step take turns, and the ratio is the median over the
turns.
"""

import argparse
import os
from collections import Counter
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from torch import nn

from mambamuse.judge.profiling import hooks, machine
from mambamuse.model.generator import MambaMuse
from mambamuse.model.mamba import Mamba
from mambamuse.sound.paths import written_beside

SHAPE = (4, 1, 16_800)


def products_of(module, x, y) -> list[tuple[int, int, int]]:
    "The products `(rows, depth) @ (depth, columns)` of a module of the network, from its input and output."
    if isinstance(module, Mamba):
        rows = x.shape[0] * x.shape[1]
        weights = [module.x_proj.weight, module.dt_proj.weight, module.out_proj.weight]
        weights += module.in_proj.weight.chunk(2)
        return [(rows, *weight.T.shape) for weight in weights]
    kernel = module.kernel_size[0]
    if isinstance(module, nn.ConvTranspose1d):
        return [(len(x) * x.shape[-1], module.in_channels, module.out_channels * kernel)]
    return [(len(y) * y.shape[-1], module.in_channels * kernel, module.out_channels)]


def forward_products(model: MambaMuse, x: torch.Tensor) -> Counter:
    "How often each shape of product occurs in a transfer."
    found = Counter()

    def count(name, module, x, y):
        found.update(products_of(module, x, y))

    with hooks(model, (Mamba, nn.Conv1d, nn.ConvTranspose1d), count), torch.no_grad():
        model(x, x.flip(0))
    return found


def limit(products: Counter):
    "What runs the products of one step."
    factors = {
        shape: (
            torch.randn(shape[0], shape[1]),
            torch.randn(shape[1], shape[2]),
            torch.randn(shape[0], shape[2]),
        )
        for shape in products
    }

    def work():
        for shape, times in products.items():
            a, b, c = factors[shape]
            for _ in range(times):
                torch.mm(a, b)
                torch.mm(c, b.T)
                torch.mm(a.T, c)

    return work


def step(model: MambaMuse, x: torch.Tensor):
    "What runs one step, without the optimiser's."

    def work():
        model.zero_grad()
        model(x, x.flip(0)).abs().mean().backward()

    return work


def seconds(work) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def turns(threads: int, repeats: int) -> dict[str, list[float]]:
    "Seconds of each variant, turn by turn; the first turn, which compiles, is left out."
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model, x = MambaMuse.from_pretrained().train(), 0.3 * torch.randn(SHAPE)
    works = {"matrix products": limit(forward_products(model, x)), "training step": step(model, x)}
    took = {name: [] for name in works}
    for _ in range(repeats + 1):
        for name, work in works.items():
            took[name].append(seconds(work))
    return {name: each[1:] for name, each in took.items()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    about = f"{machine()['cpu']}, {os.cpu_count()} cores"
    rows = []
    for threads in arguments.threads:
        took = turns(threads, arguments.repeats)
        load = f"{os.getloadavg()[0]:.1f}"
        for variant, each in took.items():
            ratio = np.median(np.divide(each, took["matrix products"]))
            rows.append(dict(threads=threads, variant=variant, ms=f"{1e3 * np.median(each):.4g}"))
            rows[-1] |= dict(ratio=f"{ratio:.3g}", n=arguments.repeats, machine=about, load=load)
            print(*rows[-1].values(), sep=", ", flush=True)
    with written_beside(arguments.out) as part:
        pd.DataFrame(rows).to_csv(part, index=False)


if __name__ == "__main__":
    main()
