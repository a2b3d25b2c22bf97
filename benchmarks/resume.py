"""Kill a training at random moments, resume it, compare it with one that was not; then inject one fault after
the other.

    python benchmarks/resume.py [--kills 24] [--seed 0]

Writes benchmarks/resume.csv, a line for each kill -9, and benchmarks/faults.csv, a line for each fault.
Everything runs as users run it,
`mambamuse.learn.train.train` in a process of its own, on real notes and a narrow model, on the CPU. Linux;
the full disk is a small tmpfs,
for which it must be root (else a limit on the size of files).
"""

import argparse
import csv
import json
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, suppress
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic, sleep

import psutil
import torch

from mambamuse.data.config import DataConfig
from mambamuse.data.notes import MINI
from mambamuse.data.prepare import prepare
from mambamuse.errors import InputError
from mambamuse.judge.profiling import machine
from mambamuse.learn.checkpoints import canonical, checkpoints, digest
from mambamuse.learn.config import TrainingConfig
from mambamuse.learn.losses import LossConfig
from mambamuse.learn.state import state_of
from mambamuse.learn.train import train
from mambamuse.learn.trainer import Trainer
from mambamuse.model.config import ModelConfig
from mambamuse.model.generator import MambaMuse
from mambamuse.sound.paths import written_beside

MODEL = ModelConfig(widths=(2, 2, 2, 2))
TRAINING = TrainingConfig(
    batch=2, steps=12, warmup=1, learning_rate=1e-3, critic_width=1 / 8, save_every=2, ema=0.9
)  # three steps an epoch
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["mambamuse.learn.trainer"])


def in_process(data, out, training, largest_file):
    torch.set_num_threads(1)
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    with open(f"{out}.said", "w") as said, redirect_stderr(said):
        try:
            train(data, out, MODEL, training=training, resume=True)
        except InputError as error:
            print(error, file=said)
            sys.exit(2)


def start(data, out, training=TRAINING, largest_file=0):
    process = FORK.Process(target=in_process, args=(data, out, training, largest_file))
    process.start()
    return process


def finish(process) -> int:
    process.join()
    return process.exitcode


def said(out, words="") -> str:
    "The last line that names `words`."
    return [
        line
        for line in Path(f"{out}.said").read_text().splitlines()
        if words in line and line.strip() and "%|" not in line
    ][-1]


def rows(out) -> int:
    path = Path(out) / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(condition, process):
    while not condition() and process.is_alive():
        sleep(0.0005)


def all_of(out) -> dict:
    "Hashes of the logs and of every tensor file of the last checkpoint."
    last = checkpoints(Path(out) / "checkpoints")[0]
    return {
        p.name: digest(p.read_bytes())
        for p in (
            Path(out) / "metrics.jsonl",
            Path(out) / "validation.jsonl",
            *sorted(last.glob("*.safetensors")),
        )
    } | {"last": last.name}


def kills(data, folder, whole, wanted, seed, takes):
    """Runs, each of which `takes` so many seconds alone, that are killed again and again until they are
    through.
    """
    draw, table, run = random.Random(seed), [], 0
    while len(table) < wanted:
        run, n = run + 1, 0
        out = Path(folder, f"killed-{run}")
        while True:
            process, began = start(data, out), monotonic()
            process.join(draw.uniform(0, 0.8 * takes))
            if not process.is_alive():
                break
            os.kill(process.pid, signal.SIGKILL)
            finish(process)
            n += 1
            done = [int(p.name[5:]) for p in checkpoints(out / "checkpoints")]
            text = (out / "metrics.jsonl").read_bytes() if (out / "metrics.jsonl").exists() else b""
            table.append(
                dict(
                    run=run,
                    kill=n,
                    after_s=round(monotonic() - began, 2),
                    steps_logged=rows(out),
                    line_cut=bool(text) and not text.endswith(b"\n"),
                    saving=bool(list(out.glob("checkpoints/.step-*.part"))),
                    newest_checkpoint=max(done, default=0),
                )
            )
        same = process.exitcode == 0 and all_of(out) == whole
        for row in table[-n:] if n else ():
            row["resumed_identical"] = same
        print(f"run {run}: {n} kills, losses, weights, optimisers, generators identical: {same}", flush=True)
        shutil.rmtree(out)
    return table


def nan_batch(data, out):
    trainer = Trainer(MODEL, LossConfig(), TRAINING)
    real = torch.rand(2, 1, 4_112) - 0.5
    trainer.step(real)
    before = {
        k: v.clone()
        for name in ("generator", "adamw_generator", "adamw_critics")
        for k, v in state_of(trainer)[name].items()
    }
    real[1, 0, 7] = float("nan")
    row = trainer.step(real)
    after = {
        k: v
        for name in ("generator", "adamw_generator", "adamw_critics")
        for k, v in state_of(trainer)[name].items()
    }
    untouched = all(torch.equal(v, after[k]) for k, v in before.items())
    return (
        (
            f"step skipped for {sum(row[f'skipped_{n}'] for n in ('generator', 'critics')):.0f} of 2 networks"
            f" and recorded; weights and optimisers untouched: {untouched}"
        ),
        None,
    )


def blown_up(data, out):
    model = MambaMuse(**asdict(MODEL))
    with torch.no_grad():
        for weights in model.parameters():
            weights.fill_(1e30)
    model.save_pretrained(out.with_name("weights-of-1e30"))
    finish(start(data, out, replace(TRAINING, init=str(out.with_name("weights-of-1e30")), skip_limit=3)))
    return said(out), None


def stopped_by(number):
    def fault(data, out):
        process = start(data, out)
        wait_for(lambda: rows(out) >= 4, process)
        os.kill(process.pid, number)
        code, at = finish(process), rows(out)
        return (
            f"exit {code} after step {at}, newest checkpoint {checkpoints(out / 'checkpoints')[0].name}",
            finish(start(data, out)) == 0,
        )

    return fault


def killed_while_saving(data, out):
    process = start(data, out, replace(TRAINING, save_every=1))
    wait_for(lambda: rows(out) > 3 and list(out.glob("checkpoints/.step-*.part")), process)
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    code, parts = finish(process), len(list(out.glob("checkpoints/.step-*.part")))
    again = finish(start(data, out)) == 0
    return (
        (
            f"exit {code} with {parts} half-written checkpoint beside {len(checkpoints(out / 'checkpoints'))}"
            f" whole; {said(out, 'goes on')}"
        ),
        again,
    )


def disk_full(data, out):
    if os.geteuid():
        return "not measured: needs root", None
    out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", out], check=True)
    try:
        finish(start(data, out))
        what, kept = said(out, "cannot be written"), [p.name for p in checkpoints(out / "checkpoints")]
        subprocess.run(["mount", "-o", "remount,size=200m", out], check=True)
        again = finish(start(data, out)) == 0
        shutil.copytree(out, out.with_name("rescued"))
    finally:
        subprocess.run(["umount", out], check=True)
    shutil.rmtree(out)
    shutil.move(out.with_name("rescued"), out)
    return f"{what} (kept {', '.join(kept)}; then more room)", again


def file_limit(data, out):
    finish(start(data, out, replace(TRAINING, steps=3)))
    finish(start(data, out, largest_file=1_000_000))
    return said(out, "cannot be written"), finish(start(data, out)) == 0


def harmed(harm, step=6):
    "The newest checkpoint is harmed, then the run resumed."

    def fault(data, out):
        finish(start(data, out, replace(TRAINING, steps=step)))
        harm(checkpoints(out / "checkpoints")[0])
        again = finish(start(data, out)) == 0
        return f"{said(out, 'passed over')}; {said(out, 'goes on')}", again

    return fault


def flip(folder):
    path = folder / "critics.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def poison(folder):
    "A pickle that would create a file, with its hash entered where it belongs."
    data = pickle.dumps(Payload(folder.parents[1] / "opened"))
    (folder / "generator.safetensors").write_bytes(data)
    body = json.loads((folder / "state.json").read_text())
    body.pop("sha256")
    body["files"]["generator.safetensors"] = dict(bytes=len(data), sha256=digest(data))
    (folder / "state.json").write_text(json.dumps(dict(body, sha256=digest(canonical(body)))))


def malicious_pickle(data, out):
    what, again = harmed(poison)(data, out)
    return f"{what}; its code ran: {(out / 'opened').exists()}", again


def half_a_line(data, out):
    finish(start(data, out, replace(TRAINING, steps=6)))
    with open(out / "metrics.jsonl", "a") as file:
        file.write('{"step": 7, "epo')
    return said(out) if (again := finish(start(data, out)) == 0) else "failed", again


def other_configuration(data, out):
    finish(start(data, out, replace(TRAINING, steps=6)))
    finish(start(data, out, replace(TRAINING, batch=4)))
    return said(out), finish(start(data, out)) == 0


def missing_shard(data, out):
    finish(start(data, out, replace(TRAINING, steps=6)))
    shard = next(Path(data, "data").glob("train-*"))
    shard.rename(shard.with_suffix(".gone"))
    finish(start(data, out))
    shard.with_suffix(".gone").rename(shard)
    return said(out), finish(start(data, out)) == 0


def worker_death(data, out):
    process = start(data, out, replace(TRAINING, workers=1))
    wait_for(lambda: rows(out) >= 4, process)
    psutil.Process(process.pid).children()[0].kill()
    finish(process)
    return said(out), finish(start(data, out)) == 0


FAULTS = {
    "NaN in a batch": nan_batch,
    "weights of 1e30": blown_up,
    "SIGTERM": stopped_by(signal.SIGTERM),
    "Ctrl-C": stopped_by(signal.SIGINT),
    "SIGKILL while saving": killed_while_saving,
    "disk full (tmpfs of 24 MB)": disk_full,
    "file size limit while saving": file_limit,
    "a bit flipped in the newest checkpoint": harmed(flip),
    "newest checkpoint cut short": harmed(
        lambda folder: os.truncate(folder / "adamw_critics.safetensors", 1_000)
    ),
    "newest checkpoint without its JSON": harmed(lambda folder: (folder / "state.json").unlink()),
    "malicious pickle as newest checkpoint's weights": malicious_pickle,
    "last line of the log half-written": half_a_line,
    "resumed with another configuration": other_configuration,
    "missing shard": missing_shard,
    "death of a process that reads": worker_death,
}


def write(path, table):
    with written_beside(path) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=24, help="at least so many; 0: the faults only")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, about = f"{folder}/data", dict(cpu=machine()["cpu"], torch=torch.__version__)
        prepare(MINI, data, DataConfig(train=7, valid=2, test=1, clip=4_112))
        for name in ("whole", "again"):
            began = monotonic()
            assert finish(start(data, f"{folder}/{name}")) == 0
            takes = monotonic() - began
        whole = all_of(f"{folder}/whole")
        assert all_of(f"{folder}/again") == whole, "the same seed gave two different runs"
        if args.kills:
            write(
                Path(__file__).with_name("resume.csv"),
                [row | about for row in kills(data, folder, whole, args.kills, args.seed, takes)],
            )
        table = []
        for number, (name, fault) in enumerate(FAULTS.items()):
            out = Path(folder, f"fault-{number}")
            what, finished = fault(data, out)
            same = "" if finished is None else finished and all_of(out) == whole
            table.append(
                {
                    "fault": name,
                    "what happened": what.replace(f"{folder}/", "").replace(out.name, "run"),
                    "resumed identical to the uninterrupted run": same,
                }
                | about
            )
            print(f"{name}: {table[-1]['what happened']} | {same}", flush=True)
        write(Path(__file__).with_name("faults.csv"), table)


if __name__ == "__main__":
    main()
