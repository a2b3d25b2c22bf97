#!/usr/bin/env bash
# What a GPU is wanted for, in two calls that fit ten minutes each. Everything they write is in OUT.
#
#     bash benchmarks/gpu_runs.sh measure OUT [MINUTES]          the scans checked and timed; as_run at the paper's batch
#     bash benchmarks/gpu_runs.sh train OUT [MINUTES] [WEIGHTS]  the arm paired at full width, from the package's weights,
#                                                                widened, or from others
#
# SMALL=1 rehearses both on a processor, at a size that says nothing of the weights. PYTHON names another interpreter.
# `train` goes on from OUT, if it has begun there.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:?measure or train}
out=${2:?the folder to write}
minutes=${3:-7}
weights=${4:-$([ -n "${SMALL:-}" ] || echo mambamuse/weights)}
if [ -n "${SMALL:-}" ]; then
  triplets=60 widths='[4,8,16,32]' batch=8 precision=float32
else
  triplets=40000 widths='[32,64,128,256]' batch=32 precision=tf32
fi
mkdir -p "$out"

run() { PYTHONPATH="$PWD" "${PYTHON:-python3}" "$@"; }
mambamuse() { run -c 'from mambamuse.cli import main; main()' "$@"; }

case $what in
measure)
  test -n "${SMALL:-}" || run benchmarks/gpu.py --check --out "$out/gpu.csv"
  run -m pytest -q tests/test_scan_triton.py -o cache_dir="$out/.pytest" | tee "$out/test_scan_triton.txt"
  mambamuse train --arm as_run --out "$out/as_run" --minutes "$minutes" model.widths="$widths" training.batch=$batch \
    training.epochs=200 training.patience=199 | tee "$out/as_run.txt"
  ;;
train)
  # drawn instruments need no soundfont, so the triplets are rendered where they are learned from
  test -f "$out/data/report.json" ||
    mambamuse prepare --source instruments --arm paired --size half --out "$out/data" --train $triplets --valid 24 --seed 11
  mambamuse train --arm paired --size half --data "$out/data" --out "$out/paired" --minutes "$minutes" --resume \
    model.widths="$widths" model.sets=4 loss.lambda_adversarial=0 loss.lambda_level=0.1 training.optimiser=muon \
    training.learning_rate=2e-3 training.batch=$batch training.ema=0.995 training.drop_skips=0.15 \
    training.precision=$precision ${weights:+training.init="$weights"} |
    tee "$out/paired.txt"
  ;;
*)
  echo "$what: measure or train" >&2
  exit 2
  ;;
esac
