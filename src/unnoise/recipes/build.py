"""From a recipe's sections to the objects they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import RecipeError, Unsupported
from ..fields import Denoiser
from ..objectives import Denoising, LogitNormal, LogNormal, OnChain, Times, Uniform, weight
from ..paths import EDM, VE, Chain, Cosine, Flow, GaussianPath, SubVP, Trigonometric, VPLinear
from ..solvers import Solver, get, grid_for
from .schema import (
    GridConfig,
    ModelConfig,
    NetworkConfig,
    ObjectiveConfig,
    PathConfig,
    Recipe,
    SampleConfig,
    Split,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..data import Dataset, DataSpec


def build_path(config: PathConfig) -> GaussianPath:
    """The path a recipe names, shifted and restricted as it says."""
    options = config.model_dump(exclude={"kind", "snr_factor", "first", "last"})
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
    return path


def build_network(
    config: NetworkConfig, model: ModelConfig, spec: DataSpec, seed: int
) -> nn.Module:
    """A network for this kind of data: its shape and classes come from the data."""
    from ..networks import Mlp, UNet

    conditions: dict[str, dict[str, Any]] = {}
    if spec.classes and model.conditional:
        conditions["class"] = {"kind": "class", "count": spec.classes, "null": model.null}
    options = config.model_dump(exclude={"kind"}) | {"conditions": conditions, "seed": seed}
    if config.kind == "mlp":
        return Mlp(list(spec.shape), **options)
    if len(spec.shape) < 2:
        raise Unsupported(
            f"network.kind is 'unet', which needs channels and at least one axis; {spec.name!r} "
            f"has events of shape {spec.shape}: use network.kind=mlp"
        )
    return UNet(spec.shape[0], len(spec.shape) - 1, **options)


def build_denoiser(
    path: PathConfig, network: NetworkConfig, model: ModelConfig, spec: DataSpec, seed: int = 0
) -> Denoiser:
    """The network with what surrounds it. Raises Unsupported for combinations that cannot work."""
    return Denoiser(
        build_network(network, model, spec, seed),
        build_path(path),
        predicts=model.predicts,
        preconditioned=model.preconditioned,
        noise_input=model.noise_input,
        data_std=data_std(spec),
    )


def data_std(spec: DataSpec) -> float:
    """The deviation of the normalised data: 1 where standardised, about ½ in [−1, 1]."""
    return 1.0 if spec.normalisation == "standardise" else 0.5


def build_objective(config: ObjectiveConfig) -> Denoising:
    """The denoising objective a recipe describes."""
    times: Times
    if config.times.kind in ("log_normal", "logit_normal"):
        kind = {"log_normal": LogNormal, "logit_normal": LogitNormal}[config.times.kind]
        times = kind(**config.times.model_dump(exclude={"kind"}, exclude_none=True))
    else:
        times = {"uniform": Uniform, "chain": OnChain}[config.times.kind](config.times.stratified)
    return Denoising(weight(config.weight, config.weight_parameter), times, config.drop)


def build_grid(config: GridConfig, path: GaussianPath, steps: int) -> Tensor:
    """The grid of times a recipe names; raises for options its kind does not have."""
    options = config.model_dump(exclude={"kind"}, exclude_none=True)
    return grid_for(path, config.kind, steps, **options)


def build_solver(config: SampleConfig) -> Solver:
    """The solver a recipe names."""
    return get(config.solver)


def check(recipe: Recipe) -> None:
    """Build what needs no data, so that an impossible recipe is refused before any work."""
    from ..fields.lenses import require_lens

    path = build_path(recipe.path)
    require_lens(path, recipe.model.predicts)
    build_objective(recipe.objective)
    if recipe.objective.times.kind == "chain" and recipe.path.kind != "chain":
        raise RecipeError("objective.times.kind is 'chain' and path.kind is not; use uniform times")
    grid = build_grid(recipe.sample.grid, path, recipe.sample.steps)
    solver = build_solver(recipe.sample)
    reason = solver.refusal(path, float(grid[0]), float(grid[-1]))
    if reason:
        raise Unsupported(f"sample.solver {recipe.sample.solver!r} on path {path}: {reason}")


def open_parts(recipe: Recipe) -> tuple[Dataset, dict[str, Dataset]]:
    """The whole data set and its parts (train, and validation and test where they have a size)."""
    from ..data import load_data

    options = recipe.data.model_dump(exclude={"source", "split"}, exclude_none=True)
    data = load_data(recipe.data.source, **options)
    split: Split = recipe.data.split
    # parts with a fixed size first would change the division: the order here is part of the split
    sizes: dict[str, int | None] = {"train": split.train}
    sizes |= {n: k for n, k in (("validation", split.validation), ("test", split.test)) if k}
    return data, data.split(sizes, split.seed)
