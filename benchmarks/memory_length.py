"""Peak memory of a transfer against the length of the recording: streamed through the exported files, and
held whole by PyTorch. Untrained weights, clip axis.

    python benchmarks/memory_length.py [--out benchmarks/memory_length.csv] [--figure figures/memory-length.png]
    python benchmarks/memory_length.py --draw     the figure again, from the table as it is

Each row is a fresh process of one thread (Linux); its peak includes interpreter, libraries, model and style
(the row of 0 minutes).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile as sf

from mambamuse.judge.profiling import machine
from mambamuse.model.generator import MambaMuse
from mambamuse.reproduce.drawing import save_figure
from mambamuse.sound.audio import SAMPLE_RATE
from mambamuse.sound.paths import written_beside
from mambamuse.sound.show import theme
from mambamuse.use.export import export_folder

HALF = (16, 32, 64, 128)
CASES = [
    *(("streamed", HALF, 1, SAMPLE_RATE, minutes) for minutes in (0, 1, 2, 5)),
    *(("streamed", HALF, 2, 44_100, minutes) for minutes in (1, 5)),
    *(("held whole", HALF, 1, SAMPLE_RATE, minutes) for minutes in (0.25, 0.5, 1)),
]

BEGIN = """
import json, re, sys
content, style, out, weights, exported = (sys.argv[1] + name for name in ("/content.wav", "/style.wav", "/out.wav", "/weights", "/onnx"))
"""
END = """
peak = int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])   # kB; ru_maxrss would begin at the parent's
print(json.dumps(dict(peak_mb=round(peak*1024/1e6, 1))))
"""
WORK = {
    "nothing": (
        """
from mambamuse.use.files import Transfer
Transfer(style, weights=exported)
"""
    ),
    "streamed": (
        """
from mambamuse.use.files import transfer_file
transfer_file(content, style, out, weights=exported)
"""
    ),
    "held whole": (
        """
import torch
from mambamuse.sound.audio import load, save
from mambamuse.model.weights import load_model, pad
model, (x, rate) = load_model(weights), load(content)
sounds = [pad(torch.from_numpy(sound)[:, None]) for sound in (x, load(style)[0])]
with torch.inference_mode():
    save(out, model(*sounds)[:, 0, :x.shape[1]].numpy(), rate)
"""
    ),
}


def write_noise(path, seconds, channels, rate):
    rng = np.random.default_rng(0)
    with sf.SoundFile(path, "w", rate, channels) as file:
        for _ in range(seconds):
            file.write(rng.uniform(-0.5, 0.5, (rate, channels)))


def measure(how, widths, channels, rate, minutes) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        model = MambaMuse(widths=widths, axis="clip")
        model.save_pretrained(f"{folder}/weights")
        export_folder(model.for_inference(), f"{folder}/onnx")
        (
            write_noise(f"{folder}/style.wav", 2, 1, SAMPLE_RATE),
            write_noise(f"{folder}/content.wav", round(60 * minutes), channels, rate),
        )
        done = subprocess.run(
            [sys.executable, "-c", BEGIN + WORK[how if minutes else "nothing"] + END, folder],
            check=True,
            capture_output=True,
            text=True,
        )
        return dict(
            how=how, widths=f"{widths[0]} to {widths[-1]}", channels=channels, rate=rate, minutes=minutes
        ) | json.loads(done.stdout.splitlines()[-1])


def draw(rows):
    "Peak memory against length, a line for each way, named at its end."
    theme()
    figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
    rows = rows[rows.minutes > 0]
    rates = {1: "mono, 16 kHz", 2: "stereo, 44.1 kHz"}
    for (how, channels), of in rows.groupby(["how", "channels"]):
        (line,) = ax.plot(of.minutes, of.peak_mb, "o-")
        end = of.iloc[-1]
        name = f"{how}, {rates[channels]}"
        ax.annotate(
            name,
            (end.minutes, end.peak_mb),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=line.get_color(),
        )
    ax.set(
        xlabel="length of the recording, minutes",
        ylabel="peak memory, MB",
        xlim=(0, 7.3),
        ylim=(0, None),
        xticks=range(6),
        title=f"Memory of a transfer, widths {rows.widths.iloc[0]}",
    )
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument(
        "--figure", type=Path, default=Path(__file__).parents[1] / "figures" / "memory-length.png"
    )
    parser.add_argument("--draw", action="store_true", help="only the figure, from the table as it is")
    arguments = parser.parse_args()
    if arguments.draw:
        save_figure(draw(pd.read_csv(arguments.out)), arguments.figure)
        sys.exit()
    where = machine()
    about = f"{where['cpu']}, 1 thread, torch {where['torch']}"
    made = []
    for case in CASES:
        made.append(measure(*case) | dict(n=1, machine=about))
        print(made[-1], flush=True)
    rows = pd.DataFrame(made)
    with written_beside(arguments.out) as part:
        rows.to_csv(part, index=False)
    save_figure(draw(rows), arguments.figure)
