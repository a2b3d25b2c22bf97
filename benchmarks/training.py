"""Where does a training step's time go, and does a long run keep its memory? Medians, n stated.

    python benchmarks/training.py [--batch 1] [--repeats 3] [--memory]

Writes benchmarks/training.csv: a step of the full model against full critics, taken apart. `--memory` instead
trains a narrow model
for 2,000 steps with `mambamuse.learn.train.train` and writes the process's resident memory every few
seconds to benchmarks/memory.csv.
"""

import argparse
import csv
import tempfile
from pathlib import Path

import torch

from mambamuse.data.config import DataConfig
from mambamuse.data.notes import MINI, Clips
from mambamuse.data.prepare import prepare
from mambamuse.judge.profiling import machine, resident, step_parts
from mambamuse.learn.config import TrainingConfig
from mambamuse.learn.losses import LossConfig
from mambamuse.learn.train import Order, batches, train
from mambamuse.learn.trainer import Trainer
from mambamuse.model.config import ModelConfig
from mambamuse.sound.audio import CLIP
from mambamuse.sound.paths import written_beside


def write(path, rows):
    with written_beside(path) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def parts(folder, batch, repeats):
    "A step of the released recipe on real clips, `batch` of them."
    prepare(MINI, f"{folder}/data", DataConfig(train=batch, valid=1, test=1))
    clips = Clips(f"{folder}/data", "train")
    trainer, about = Trainer(ModelConfig(), LossConfig(), TrainingConfig(batch=batch)), machine()

    def read():
        return next(iter(batches(clips, Order(len(clips), batch, 0, 1))))

    rows = step_parts(trainer, read().to(trainer.device), read, repeats)
    return [
        dict(
            part=r["part"],
            seconds=round(r["seconds"], 4),
            share=round(r["share"], 4),
            batch=batch,
            clip=CLIP,
            n=repeats,
            device=about["device"],
            cpu=about["cpu"],
            threads=about["threads"],
            torch=about["torch"],
        )
        for r in rows
    ]


def memory(folder, steps=2_000):
    "Resident memory of a real run, with its validations and checkpoints, by step."
    prepare(MINI, f"{folder}/data", DataConfig(train=95, valid=2, test=1, clip=4_112))
    rows = []

    def watch(out):
        rows.append(
            dict(
                step=(Path(out) / "metrics.jsonl").read_bytes().count(b"\n"),
                rss_MB=round(resident("VmRSS") / 1e6, 1),
                peak_MB=round(resident("VmHWM") / 1e6, 1),
                threads=torch.get_num_threads(),
            )
        )

    train(
        f"{folder}/data",
        f"{folder}/run",
        ModelConfig(widths=(2, 2, 2, 2)),
        training=TrainingConfig(batch=1, steps=steps, warmup=1, critic_width=1 / 8, patience=steps),
        watch=watch,
    )
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=1, help="clips a step; the paper's is 32")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each part; the median counts")
    parser.add_argument("--memory", action="store_true", help="memory over 2,000 steps instead")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, name = (
            (memory(folder), "memory.csv")
            if args.memory
            else (parts(folder, args.batch, args.repeats), "training.csv")
        )
    write(Path(__file__).with_name(name), rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
