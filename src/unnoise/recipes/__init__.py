"""Recipes: all settings of a run as one typed tree."""

from .build import (
    build_denoiser,
    build_grid,
    build_network,
    build_path,
    build_solver,
    check,
    check_data,
    data_std,
    open_parts,
    parts_of,
    plan_grid,
)
from .build_objective import build_objective, levels_of
from .choose import choose, choose_for, fits_time
from .load import dump, load_recipe, read_tree, resolved, shipped, validate
from .schema import Recipe, SampleConfig
from .section import seconds

__all__ = [
    "Recipe",
    "SampleConfig",
    "build_denoiser",
    "build_grid",
    "build_network",
    "build_objective",
    "build_path",
    "build_solver",
    "check",
    "check_data",
    "choose",
    "choose_for",
    "data_std",
    "dump",
    "fits_time",
    "levels_of",
    "load_recipe",
    "open_parts",
    "parts_of",
    "plan_grid",
    "read_tree",
    "resolved",
    "seconds",
    "shipped",
    "validate",
]
