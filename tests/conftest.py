"""What tests share: the oracle mamba-ssm, which needs its CUDA extension, if absent, to be an empty module;
Triton's interpreter, if there is no GPU; and the command.
"""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

try:
    import selective_scan_cuda  # noqa: F401
except ImportError:
    sys.modules["selective_scan_cuda"] = types.ModuleType("selective_scan_cuda")

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read once, when triton is imported; torch alone does not

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def mambamuse():
    "Run the command in a process of its own: exit code, standard output, standard error."

    def run(*words, cwd=None):
        done = subprocess.run(
            [Path(sys.executable).with_name("mambamuse"), *map(str, words)],
            capture_output=True,
            text=True,
            cwd=cwd,
        )
        return done.returncode, done.stdout, done.stderr

    return run
