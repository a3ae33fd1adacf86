"""Recipes: all settings of a run as one typed tree."""

from .build import (
    abilities,
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
from .sample_check import Abilities, why_unsupported, without_null
from .sample_section import (
    FLAT,
    GridConfig,
    Guidance,
    SampleConfig,
    SampleOptions,
    brings_grid,
    guidance_text,
    is_number,
    merged_guidance,
)
from .schema import Recipe
from .section import seconds

__all__ = [
    "FLAT",
    "Abilities",
    "GridConfig",
    "Guidance",
    "Recipe",
    "SampleConfig",
    "SampleOptions",
    "abilities",
    "brings_grid",
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
    "guidance_text",
    "is_number",
    "levels_of",
    "load_recipe",
    "merged_guidance",
    "open_parts",
    "parts_of",
    "plan_grid",
    "read_tree",
    "resolved",
    "seconds",
    "shipped",
    "validate",
    "why_unsupported",
    "without_null",
]
