"""A host in Python, with NumPy and ONNX Runtime and nothing else.

    mambamuse export exported                # needs pip install 'mambamuse[torch]'; the rest does not
    python examples/host.py exported content.f32 style.f32 out.f32

Sounds are raw float32, mono at 16 kHz, scaled so that their loudest peaks reach 0.9, the model's level. Where
mambamuse is installed, this makes one of a recording:

    python -c "from mambamuse.use.style import prepared; prepared('voice.wav').tofile('content.f32')"

First the style's graph measures the style; then the step takes the content block by block, as a plug-in gets it.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

SHORTEST = 800  # samples, 0.05 s: less of a style is no timbre


def raw(path: str, shortest: int = 0) -> np.ndarray:
    "The samples of a file of raw float32. Exits with a line if they are no sound, or fewer than `shortest`."
    sound = np.fromfile(path, "<f4", Path(path).stat().st_size // 4)
    if not np.isfinite(sound).all() or np.abs(sound).max(initial=0) > 2:
        sys.exit(f"{path}: not raw float32 of about -1 to 1; see the head of this file")
    if len(sound) < shortest:
        sys.exit(f"{path}: {len(sound)} samples, at least {shortest} are needed")
    return sound


def main(folder: str, content: str, style: str, out: str):
    for path in (Path(folder, "about.json"), content, style):
        if not Path(path).is_file():
            sys.exit(f"{path}: no such file")
    about = json.loads(Path(folder, "about.json").read_text())
    name, step = next((name, file) for name, file in about["files"].items() if name.startswith("step"))
    sound, example = raw(content), raw(style, SHORTEST)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # its products are small: threads would wait for each other
    measure = onnxruntime.InferenceSession(Path(folder, "style.onnx"), options)
    (statistics,) = measure.run(["style"], {"sound": example})

    session = onnxruntime.InferenceSession(Path(folder, name), options)
    block, delay = step["block"], step["delay"]
    knobs = {
        "style": statistics,
        "content": statistics,
        "alphas": np.array(step["alphas"], np.float32),
        "warm_up": np.array(0.5),
        "half_life": np.array(np.inf),
        "length": np.array(max(32, -(-len(sound) // 16) * 16)),
    }
    memories = {
        memory: np.zeros(step["inputs"][memory]["shape"], step["inputs"][memory]["kind"])
        for memory in ("state", "sums")
        if memory in step["inputs"]
    }
    knobs = {name: knob for name, knob in knobs.items() if name in step["inputs"]}  # without AdaIN: fewer
    outputs = ["out", *(f"new_{memory}" for memory in memories)]
    padded = np.pad(sound, (0, delay + -(len(sound) + delay) % block))
    played = []
    for position in range(0, len(padded), block):
        now = {"block": padded[position : position + block], "position": np.array(position)}
        y, *new = session.run(outputs, now | knobs | memories)
        memories = dict(zip(memories, new))
        played.append(y)
    np.concatenate(played)[delay : delay + len(sound)].tofile(out)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
