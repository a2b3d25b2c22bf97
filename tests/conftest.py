"""What tests share: the oracle mamba-ssm, which needs its absent CUDA extension to be an empty module, and the command."""
import subprocess
import sys
import types
from pathlib import Path

sys.modules.setdefault("selective_scan_cuda", types.ModuleType("selective_scan_cuda"))

import pytest  # noqa: E402
import torch  # noqa: E402

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def mambamuse():
    "Run the command in a process of its own: exit code, standard output, standard error."
    def run(*words, cwd=None):
        done = subprocess.run([Path(sys.executable).with_name("mambamuse"), *map(str, words)], capture_output=True, text=True, cwd=cwd)
        return done.returncode, done.stdout, done.stderr
    return run
