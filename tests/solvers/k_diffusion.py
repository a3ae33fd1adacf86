"""k-diffusion's own samplers: its sampling.py alone, without the package's other imports."""

from __future__ import annotations

import importlib.util
import sys
import types
from functools import lru_cache
from pathlib import Path

import pytest


@lru_cache(maxsize=1)
def sampling():
    """The module k_diffusion.sampling, or a skipped test where it is not installed.

    The package's __init__ and utils import torchvision, which is not wanted; sampling needs one
    function of utils.
    """
    for name in ("torchdiffeq", "torchsde"):
        pytest.importorskip(name, reason="k-diffusion's samplers need it (extra: peers)")
    found = [Path(p) / "k_diffusion" for p in sys.path]
    root = next((p for p in found if (p / "sampling.py").exists()), None)
    if root is None:
        pytest.skip("k-diffusion is not installed (make peers)")
    package = types.ModuleType("k_diffusion_alone")
    package.__path__ = [str(root)]
    utils = types.ModuleType("k_diffusion_alone.utils")
    utils.append_dims = lambda x, n: x.reshape(x.shape + (1,) * (n - x.ndim))
    package.utils = utils
    sys.modules |= {"k_diffusion_alone": package, "k_diffusion_alone.utils": utils}
    spec = importlib.util.spec_from_file_location(
        "k_diffusion_alone.sampling", root / "sampling.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
