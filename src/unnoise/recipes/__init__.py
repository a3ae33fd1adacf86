"""Recipes: everything a run is made of, as one typed tree."""

from .build import (
    build_denoiser,
    build_grid,
    build_network,
    build_objective,
    build_path,
    build_solver,
    check,
    data_std,
    open_parts,
)
from .choose import choose
from .load import dump, load_recipe, read_tree, shipped, validate
from .schema import Recipe, SampleConfig, seconds

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
    "choose",
    "data_std",
    "dump",
    "load_recipe",
    "open_parts",
    "read_tree",
    "seconds",
    "shipped",
    "validate",
]
