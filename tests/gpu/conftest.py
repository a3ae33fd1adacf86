"""The device of the tests marked `gpu`.

Where there is none the tests are skipped; with PRETEND_GPU=1 in the environment those that need no
real one run on the pretended device of `tests/pretend_cuda.py`.
"""

from __future__ import annotations

import os
import warnings

import pytest
import torch

from tests.pretend_cuda import pretended

REAL, PRETEND = torch.cuda.is_available(), os.environ.get("PRETEND_GPU") == "1"
WHY = "no CUDA device here; `make gpu` runs these tests where there is one"
NEEDS_KERNELS = "synchronis", "runs_ahead", "compiled", "narrow_arithmetic", "float16_learns"


def pytest_collection_modifyitems(items):
    """Skip the tests marked `gpu` where there is no device for them, with the reason."""
    for item in items:
        if item.get_closest_marker("gpu") and not REAL:
            if not PRETEND:
                item.add_marker(pytest.mark.skip(reason=WHY))
            elif any(part in item.name for part in NEEDS_KERNELS):
                item.add_marker(pytest.mark.skip(reason="needs a real CUDA device"))


@pytest.fixture
def device(monkeypatch):
    """The first GPU: no TF32, deterministic kernels; settings are restored afterwards."""
    if not REAL:
        with pretended(monkeypatch) as place:
            yield place
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deterministic.*")
        yield torch.device("cuda", torch.cuda.current_device())
    torch.use_deterministic_algorithms(False)
    matmul.allow_tf32, cudnn.allow_tf32 = before
