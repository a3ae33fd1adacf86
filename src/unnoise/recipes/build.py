"""The objects that a recipe's sections describe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import RecipeError, Unsupported, unknown
from ..fields import Denoiser
from ..paths import (
    EDM,
    VE,
    Chain,
    Cosine,
    Coupled,
    Flow,
    GaussianPath,
    SubVP,
    Trigonometric,
    VPLinear,
    grid_for,
)
from ..solvers import Solver, names, own_grid
from .build_objective import check_coupling, check_objective
from .sample_check import Abilities, why_unsupported
from .sample_section import GridConfig, SampleConfig
from .schema import ModelConfig, NetworkConfig, PathConfig, Recipe
from .sources import Split

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..data import Dataset, DataSpec


def build_path(config: PathConfig) -> GaussianPath:
    """Return the path of a section, shifted, restricted and coupled by its keys."""
    options = config.model_dump(exclude={"kind", "snr_factor", "first", "last", "coupled"})
    if config.kind == "chain":
        chain = getattr(Chain, config.betas)(config.steps)
        path = (chain.with_zero_terminal_snr() if config.zero_terminal_snr else chain).as_path()
    else:
        kinds = {
            "flow": Flow, "trigonometric": Trigonometric, "cosine": Cosine, "vp": VPLinear,
            "sub_vp": SubVP, "ve": VE, "edm": EDM,
        }  # fmt: skip
        path = kinds[config.kind](**options)
    if config.snr_factor != 1:
        path = path.shifted(config.snr_factor)
    if (config.first, config.last) != (0.0, 1.0):
        path = path.restricted(config.first, config.last)
    return path if config.coupled is None else Coupled(path, config.coupled)


def build_network(
    config: NetworkConfig, model: ModelConfig, spec: DataSpec, seed: int
) -> nn.Module:
    """Return a network for this kind of data: its shape and conditions come from `spec`."""
    from ..networks import DiT, Mlp, UNet
    from ..networks.dit import check_cells

    if config.kind == "own":
        raise Unsupported(
            f"network.kind is 'own': the network is the class {config.name!r} of a program, whose "
            f"code no recipe holds; give it: Training.of(recipe, network={config.name}()), or "
            f"unnoise.load(folder, network={config.name}())"
        )
    conditions: dict[str, dict[str, Any]] = {}
    if model.conditional:
        for name, meaning in spec.conditions.items():
            conditions[name] = meaning.network() | {"null": model.null}
    options = config.model_dump(exclude={"kind"}) | {"conditions": conditions, "seed": seed}
    if model.learned_variance:
        options["channels_out"] = 2 * spec.shape[0]
    if config.kind == "mlp":
        return Mlp(list(spec.shape), **options)
    if len(spec.shape) < 2:
        raise Unsupported(
            f"network.kind is {config.kind!r}, which needs channels and at least one axis; "
            f"{spec.name!r} has events of shape {spec.shape}: use network.kind=mlp"
        )
    if config.kind == "dit":
        check_cells(spec.shape[1:], config.patch)
        if config.positions == "learned":
            options["size"] = list(spec.shape[1:])
        return DiT(spec.shape[0], len(spec.shape) - 1, **options)
    return UNet(spec.shape[0], len(spec.shape) - 1, **options)


def build_denoiser(
    path: PathConfig,
    network: NetworkConfig,
    model: ModelConfig,
    spec: DataSpec,
    seed: int = 0,
    own: nn.Module | None = None,
) -> Denoiser:
    """Return the denoiser of a recipe: its network with path, lens and preconditioning.

    own: the network, where its kind is "own". Raises Unsupported for combinations that cannot work.
    """
    return Denoiser(
        build_network(network, model, spec, seed) if own is None else own,
        build_path(path),
        predicts=model.predicts,
        preconditioned=model.preconditioned,
        noise_input=model.noise_input,
        data_std=data_std(spec),
        learned_variance=model.learned_variance,
    )


def data_std(spec: DataSpec) -> float:
    """Return the deviation of the normalised data: 1 if standardised, about ½ in [−1, 1]."""
    return 1.0 if spec.normalisation == "standardise" else 0.5


def build_grid(config: GridConfig, path: GaussianPath, steps: int) -> Tensor:
    """Return the grid of times of a section; raises RecipeError for options that its kind lacks."""
    options = config.model_dump(exclude={"kind"}, exclude_none=True)
    return grid_for(path, config.kind, steps, **options)


def plan_grid(config: SampleConfig, path: GaussianPath, solver: Solver) -> Tensor:
    """Return the grid of times of a section `sample`, for its solver."""
    if config.grid.kind != "own":
        return build_grid(config.grid, path, config.steps)
    options = config.grid.model_dump(exclude={"kind"}, exclude_none=True)
    for name in options:
        raise unknown("option of grid 'own'", name, ())
    return own_grid(solver, path, config.steps)


def build_solver(config: SampleConfig) -> Solver:
    """Return the solver of a section, by our name or by that of another program."""
    return names.ask(config.solver).solver


def check(recipe: Recipe) -> None:
    """Build everything that needs no data, and raise if the recipe is impossible."""
    from ..fields.lenses import require_lens

    path = build_path(recipe.path)
    require_lens(path, recipe.model.predicts)
    check_objective(recipe.objective, recipe.model, path)
    check_coupling(recipe.objective, recipe.train.batch // recipe.train.accumulate)
    solver = build_solver(recipe.sample)
    grid = plan_grid(recipe.sample, path, solver)
    if wrong := why_unsupported(recipe.sample, solver, abilities(recipe)):
        raise RecipeError(wrong)
    reason = solver.why_refused(path, float(grid[0]), float(grid[-1]))
    if reason:
        raise Unsupported(f"sample.solver {recipe.sample.solver!r} on path {path}: {reason}")


def abilities(recipe: Recipe, spec: DataSpec | None = None) -> Abilities:
    """Return the abilities of a model of this recipe in sampling, trained on data of this
    description, or by default on data with conditions."""
    model, shares = recipe.model, recipe.objective.condition_dropout
    if spec is None:
        null = any(shares.values()) if isinstance(shares, dict) else shares > 0
        return Abilities(model.conditional, null, model.learned_variance)
    if not spec.conditions:
        return Abilities(False, False, model.learned_variance)
    never = tuple(name for name in spec.conditions if not recipe.objective.dropout(name))
    return Abilities(
        conditional=model.conditional,
        null=not never,
        learned_variance=model.learned_variance,
        names=tuple(spec.conditions),
        never_null=never,
    )


def check_data(recipe: Recipe, spec: DataSpec) -> None:
    """Raise RecipeError if a recipe needs conditions that the data lack."""
    shares = recipe.objective.condition_dropout
    for name in shares if isinstance(shares, dict) else ():
        if name not in spec.conditions:
            known = spec.conditions or ("none",)
            raise unknown("objective.condition_dropout:", name, known, RecipeError)
    able = abilities(recipe, spec)
    if not spec.conditions:
        able = replace(able, lack=f"{spec.name!r} has no labels")
    if wrong := why_unsupported(recipe.sample, build_solver(recipe.sample), able):
        raise RecipeError(wrong)


def open_parts(recipe: Recipe) -> tuple[Dataset, dict[str, Dataset]]:
    """Return the whole data set and its parts.

    The parts are train, and validation and test if they have a size.
    """
    from ..data import load_data

    if recipe.data.source == "own":
        raise RecipeError(
            "data.source is 'own': a program gave the data, and the recipe cannot open them; give "
            "them again, by Training.of(recipe, data=…), or name data that can be opened"
        )
    options = recipe.data.model_dump(exclude={"source", "split"}, exclude_none=True)
    data = load_data(recipe.data.source, **options)
    return data, parts_of(recipe, data)


def parts_of(recipe: Recipe, data: Dataset) -> dict[str, Dataset]:
    """Return the parts into which a recipe divides data that are open already."""
    split: Split = recipe.data.split
    # parts with a fixed size first would change the division: the order here is part of the split
    sizes: dict[str, int | None] = {"train": split.train}
    sizes |= {n: k for n, k in (("validation", split.validation), ("test", split.test)) if k}
    return data.split(sizes, split.seed)
