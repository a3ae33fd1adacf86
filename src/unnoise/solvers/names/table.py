"""The table of names as data: every row, and every name of a grid."""

from __future__ import annotations

from . import diffusers, interfaces, k_diffusion
from .row import Row

ROWS: tuple[Row, ...] = (*k_diffusion.ROWS, *interfaces.ROWS, *diffusers.ROWS)
GRIDS: dict[str, tuple[str, dict] | str] = {
    **interfaces.GRIDS,
    **k_diffusion.GRIDS,
    **diffusers.GRIDS,
}
