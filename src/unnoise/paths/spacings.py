"""Grids of times by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..errors import InvalidArgument, need_count, unknown
from . import grids, peer_grids
from .chains import ChainPath
from .path import GaussianPath

GRIDS: dict[str, Callable[..., Tensor]] = {
    "uniform": grids.uniform,
    "quadratic": grids.quadratic,
    "log_snr": grids.log_snr,
    "karras": grids.karras,
    "polyexponential": peer_grids.polyexponential,
    "kl_optimal": peer_grids.kl_optimal,
    "beta": peer_grids.beta,
    "align_your_steps": peer_grids.align_your_steps,
    "trailing": grids.trailing,
    "leading": grids.leading,
    "linspace": grids.linspace,
    "simple": peer_grids.simple,
    "normal": peer_grids.normal,
    "sgm_uniform": peer_grids.sgm_uniform,
}
ON_CHAINS = ("trailing", "leading", "linspace", "simple", "normal", "sgm_uniform")


def grid_for(path: GaussianPath, spacing: str, steps: int, **options: Any) -> Tensor:
    """Return a grid by name; options (start, end, sigma_min, sigma_max, rho) as of its function.

    Raises InvalidArgument for unknown names and for options the spacing does not have.
    """
    if spacing not in GRIDS:
        raise unknown("grid", spacing, GRIDS)
    need_count("steps", steps)
    if spacing in ON_CHAINS and not isinstance(path, ChainPath):
        raise InvalidArgument(
            f"grid {spacing!r} counts the steps of a chain, and {path} is none; use uniform, "
            "log_snr or karras"
        )
    takes = inspect.signature(GRIDS[spacing]).parameters
    for name in options:
        if name not in takes or name in ("path", "steps"):
            raise unknown(f"option of grid {spacing!r}", name, set(takes) - {"path", "steps"})
    if "path" in takes:
        return GRIDS[spacing](path, steps, **options)
    return GRIDS[spacing](steps, **options)
