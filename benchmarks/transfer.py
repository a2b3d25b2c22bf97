"""How long a musician waits: commands from the shell, and whole files on each engine.

    python benchmarks/transfer.py [--out benchmarks/transfer.csv] [--repeats 5]

Wall time, median of the repeats, on an otherwise quiet machine. The package must be installed in the
environment that runs
this. `engine` rows are processor-bound: the same 20 s of mono and stereo through the exported stages, through
the compiled ones and through PyTorch's.
"""

import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import soundfile as sf


def timed(work, repeats):
    "Seconds that `work()` takes: the median of `repeats`, after one that does not count."
    work()
    seconds = []
    for _ in range(repeats):
        began = perf_counter()
        work()
        seconds.append(perf_counter() - began)
    return float(np.median(seconds))


def melody(seconds, rate, channels):
    "Plucked notes, three a second, each channel later and quieter than the one before: `(time, channels)`."
    t = np.arange(int(seconds * rate)) / rate
    keys = np.random.default_rng(0).integers(-12, 12, int(3 * seconds) + 1)[(3 * t).astype(int)]
    note = np.sin(2 * np.pi * np.cumsum(330 * 2 ** (keys / 12)) / rate) * np.exp(-4 * (t % (1 / 3)))
    return 0.5 * np.stack([np.roll(note, n * rate // 9) * 0.5**n for n in range(channels)], 1)


def commands(folder, repeats):
    "Rows (what, seconds) of the command line."
    command = [str(Path(sys.executable).with_name("mambamuse"))]
    sf.write(folder / "style.wav", melody(2, 16_000, 1)[:, 0], 16_000)
    cases = {
        "2 s of mono": (2, 44_100, 1),
        "30 s of stereo": (30, 44_100, 2),
        "3 min of mono": (180, 44_100, 1),
        "3 min of stereo": (180, 44_100, 2),
    }
    for name, shape in cases.items():
        sf.write(folder / f"{name}.wav", melody(*shape), shape[1])

    def run(*args):
        return lambda: subprocess.run([*command, *args], cwd=folder, capture_output=True)

    for what, args in (
        ("--help", ["--help"]),
        ("--version", ["--version"]),
        ("a misspelt file", ["transfer", "no.wav", "style.wav"]),
        ("recipe", ["recipe"]),
    ):
        yield what, timed(run(*args), repeats), repeats
    for name in cases:
        n = repeats if "min" not in name else 1
        yield (
            f"transfer, {name}",
            timed(run("transfer", f"{name}.wav", "style.wav", "-o", "out.wav", "--force"), n),
            n,
        )


def engines(repeats):
    "Rows (what, seconds a second of sound) of the engines."
    from mambamuse.model.weights import load_model
    from mambamuse.use.compiled import CompiledNetwork
    from mambamuse.use.levels import level, levelled
    from mambamuse.use.stages import restyled
    from mambamuse.use.step import Carried
    from mambamuse.use.streaming import TorchNetwork

    exported = Carried()
    networks = {
        "ONNX Runtime": exported,
        "compiled": CompiledNetwork.carried(),
        "PyTorch": TorchNetwork(load_model()),
    }
    for channels in (1, 2):
        sound = melody(20, 16_000, channels).T.astype("float32")
        sound = levelled(sound, level(sound))
        style = exported.measure(sound[0])
        for name, network in networks.items():
            seconds = timed(lambda: restyled(network, sound, style, 1.0), repeats)
            yield f"engine, {name}, {channels} channel(s), a second of sound", seconds / 20, repeats


def lengths(repeats):
    "Rows (what, seconds a second of sound) of the compiled engine, for a short recording and a long one."
    from mambamuse.use.compiled import CompiledNetwork
    from mambamuse.use.levels import level, levelled
    from mambamuse.use.stages import measured_style, restyled

    network = CompiledNetwork.carried()
    for seconds in (2, 120):
        sound = melody(seconds, 16_000, 1).T.astype("float32")
        sound = levelled(sound, level(sound))
        style = measured_style(network, sound[0, : 2 * 16_000])
        spent = timed(lambda: restyled(network, sound, style, 1.0), repeats)
        yield f"engine, compiled, a second of a sound of {seconds} s", spent / seconds, repeats


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="benchmarks/transfer.csv")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    machine = f"{model}, {os.cpu_count()} cores"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in (*commands(Path(folder), args.repeats), *engines(3), *lengths(5)):
            rows.append((row[0], f"{row[1]:.3g}", row[2], machine))
            print(*rows[-1], f"load {os.getloadavg()[0]:.1f}")
    with open(args.out, "w", newline="") as file:
        csv.writer(file).writerows([("case", "seconds", "n", "machine"), *rows])


if __name__ == "__main__":
    main()
