"""How near does the compiled network come to the limit of its matrix products, and PyTorch?

    python benchmarks/compiled.py [--out benchmarks/compiled.csv] [--repeats 9]

The generator reconstructs 2.1 s. The limit is what its multiply-adds would take at the speed of a large
float32 matrix product of PyTorch, measured in the same minute: all variants take turns, and a ratio is the
median over the turns. One thread, as a file's channel has it; and a sound on each of two threads at once,
where the limit is that of two threads. `a second of sound`: in one recording of 2 s and in one of 120 s,
through the stages of a file.
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from transfer import melody

from mambamuse.judge.profiling import machine, macs
from mambamuse.model.generator import MambaMuse
from mambamuse.model.weights import load_model
from mambamuse.sound.paths import written_beside
from mambamuse.use.compiled import STAGE_BLOCK, CompiledNetwork, Machine
from mambamuse.use.levels import level, levelled
from mambamuse.use.program import step_program
from mambamuse.use.stages import measured_style, restyled
from mambamuse.use.step import UNKNOWN

SAMPLES = 33_600 // STAGE_BLOCK * STAGE_BLOCK
SIDE = 2_048  # of the large product


def seconds(work) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def reconstruction(network: CompiledNetwork):
    "What reconstructs `SAMPLES` samples."
    program = step_program(network.parameters, network.bypass, network.sets, [0.0] * 9)
    machine = Machine(program, STAGE_BLOCK)

    def work():
        for block in np.split(np.random.default_rng(0).normal(0, 0.1, SAMPLES), SAMPLES // STAGE_BLOCK):
            machine.inputs[0][:, 0] = block
            machine(UNKNOWN)

    return work


def turns(model: MambaMuse, threads: int, repeats: int) -> dict[str, list[float]]:
    "Seconds a sound of each variant, turn by turn; those of the limit first."
    torch.set_num_threads(threads)
    a, x = torch.randn(SIDE, SIDE), torch.randn(1, 1, SAMPLES) * 0.1
    count = sum(r["macs"] for r in macs(model, (1, 1, SAMPLES)))
    works = [reconstruction(model.network()) for _ in range(threads)]
    took = dict(limit=[], compiled=[], PyTorch=[])
    with ThreadPoolExecutor(threads) as pool, torch.inference_mode():
        for _ in range(repeats + 1):
            took["limit"].append(seconds(lambda: a @ a) * count / SIDE**3)
            took["compiled"].append(seconds(lambda: list(pool.map(lambda work: work(), works))) / threads)
            took["PyTorch"].append(seconds(lambda: model(x)))
    return {name: each[1:] for name, each in took.items()}


def to_the_limit(repeats: int):
    models = {"half width (16 to 128)": load_model(), "full width (32 to 256)": MambaMuse(axis="clip")}
    for name, model in models.items():
        for threads in (1, 2):
            took = turns(model.for_inference(), threads, repeats)
            for variant, each in took.items():
                ratio = np.median(np.divide(each, took["limit"]))
                case = f"{name}, {threads} thread{'s' * (threads > 1)}"
                yield case, variant, 1e3 * np.median(each), ratio, repeats


def lengths(repeats: int):
    network, base = CompiledNetwork.carried(), None
    for length in (2, 120):
        sound = melody(length, 16_000, 1).T.astype("float32")
        sound = levelled(sound, level(sound))
        style = measured_style(network, sound[0, : 2 * 16_000])
        spent = (
            np.median([seconds(lambda: restyled(network, sound, style, 1.0)) for _ in range(repeats)])
            / length
        )
        base = base or spent
        yield "a second of sound", f"of {length} s", 1e3 * spent, spent / base, repeats


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    about = f"{machine()['cpu']}, {os.cpu_count()} cores"
    rows = []
    for case, variant, ms, ratio, n in (*lengths(arguments.repeats), *to_the_limit(arguments.repeats)):
        load = f"{os.getloadavg()[0]:.1f}"
        rows.append(dict(case=case, variant=variant, ms=f"{ms:.4g}", ratio=f"{ratio:.3g}", n=n))
        rows[-1] |= dict(machine=about, load=load)
        print(*rows[-1].values(), sep=", ", flush=True)
    with written_beside(arguments.out) as part:
        pd.DataFrame(rows).to_csv(part, index=False)


if __name__ == "__main__":
    main()
