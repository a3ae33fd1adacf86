"""The objective that a recipe's objective section describes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import InvalidArgument, RecipeError, Unsupported
from ..fields import Prediction
from ..likelihood import Levels
from ..objectives import (
    TIMES,
    Batch,
    Denoising,
    FiniteDifferenceScoreMatching,
    ImplicitScoreMatching,
    LossHistory,
    MaximumLikelihood,
    Objective,
    ScoreMatching,
    SlicedScoreMatching,
    TimeDistribution,
    Uniform,
    Variational,
    Weight,
    weight,
)
from ..paths import ChainPath, GaussianPath, coupling
from ..randomness import Streams
from .objectives import (
    METHODS_WITH,
    DenoisingObjective,
    HybridObjective,
    MaximumLikelihoodObjective,
    ObjectiveConfig,
    ScoreMatchingObjective,
    StepTimesConfig,
    TimesConfig,
    VlbObjective,
    asks_for_coupling,
)

if TYPE_CHECKING:
    from ..data import DataSpec
    from .schema import ModelConfig


def build_objective(
    config: ObjectiveConfig, std: float = 1.0, levels: Levels | None = None
) -> Objective:
    """Return the objective of a section.

    `std` is the data's, for the weight 'edm'; `levels` those of discrete data, the result of
    `levels_of`, for the decoder of a bound.
    """
    return _BUILDERS[config.kind](config, std, levels)


def _denoising(config: DenoisingObjective, std: float, levels: Levels | None) -> Objective:
    options = config.coupling.model_dump(exclude={"kind"})
    return Denoising(
        _weight(config, std),
        _times(config.times),
        config.condition_dropout,
        coupling(config.coupling.kind, **options),
    )


def _score_matching(config: ScoreMatchingObjective, std: float, levels: Levels | None) -> Objective:
    given = {key: value for key in METHODS_WITH if (value := getattr(config, key)) is not None}
    return _METHODS[config.method](
        _weight(config, std), _times(config.times), config.condition_dropout, **given
    )


def _maximum_likelihood(
    config: MaximumLikelihoodObjective, std: float, levels: Levels | None
) -> Objective:
    return MaximumLikelihood(
        config.steps, config.tableau, config.trace, config.condition_dropout, levels
    )


_METHODS: dict[str, type[ScoreMatching]] = {
    "implicit": ImplicitScoreMatching,
    "sliced": SlicedScoreMatching,
    "finite_difference": FiniteDifferenceScoreMatching,
}


def _hybrid(config: HybridObjective, std: float, levels: Levels | None) -> Objective:
    return Variational(
        _weight(config, std),
        scale=config.scale,
        steps=config.steps,
        times=_step_times(config.times),
        levels=levels,
        condition_dropout=config.condition_dropout,
    )


def _vlb(config: VlbObjective, std: float, levels: Levels | None) -> Objective:
    return Variational(
        None,
        variance=config.variance,
        steps=config.steps,
        times=_step_times(config.times),
        levels=levels,
        condition_dropout=config.condition_dropout,
    )


_BUILDERS: dict[str, Callable[[Any, float, Levels | None], Objective]] = {
    "denoising": _denoising,
    "hybrid": _hybrid,
    "vlb": _vlb,
    "score_matching": _score_matching,
    "maximum_likelihood": _maximum_likelihood,
}


def _weight(
    config: DenoisingObjective | HybridObjective | ScoreMatchingObjective, std: float
) -> Weight:
    parameter = config.weight_parameter
    if parameter is None and config.weight == "edm":
        parameter = std
    return weight(config.weight, parameter)


def _times(config: TimesConfig) -> TimeDistribution:
    options = config.model_dump(exclude={"kind"})
    null_counts = {"levels"}  # a ladder without levels is the continuous one
    return TIMES[config.kind](
        **{k: v for k, v in options.items() if v is not None or k in null_counts}
    )


def _step_times(config: StepTimesConfig) -> Uniform | LossHistory:
    if config.kind == "loss_history":
        return LossHistory(config.keep, config.uniform)
    return Uniform(config.stratified)


def levels_of(spec: DataSpec) -> Levels | None:
    """Return the levels that normalised data of this kind can take; None for continuous data."""
    if spec.dtype != "uint8":
        return None
    low, high = spec.value_range
    return Levels(
        tuple((low - mean) / std for mean, std in _pairs(spec)),
        tuple((high - mean) / std for mean, std in _pairs(spec)),
        int(high - low) + 1,
    )


def _pairs(spec: DataSpec) -> list[tuple[float, float]]:
    many = max(len(spec.mean), len(spec.std))
    mean, std = (v * many if len(v) == 1 else v for v in (spec.mean, spec.std))
    return list(zip(mean, std, strict=True))


def check_objective(config: ObjectiveConfig, model: ModelConfig, path: GaussianPath) -> None:
    """Raise if the objective is impossible, or leaves a part of the model untrained."""
    times = getattr(config, "times", None)
    if times is not None and times.kind == "chain" and not isinstance(path, ChainPath):
        raise RecipeError(
            f"objective.times.kind is 'chain', and the path is {path}; use uniform times, or an "
            "unchanged path.kind=chain"
        )
    asks = asks_for_coupling(config.model_dump())
    if asks and path.independent:
        raise RecipeError(
            f"{asks} needs a path whose ends may be coupled, and path.coupled is null; leave "
            "path.coupled out, or set path.coupled=gaussian"
        )
    if config.kind in ("score_matching", "hybrid", "vlb") and not path.independent:
        raise RecipeError(
            f"objective.kind {config.kind!r} needs noise that is independent of the data, and "
            "path.coupled is 'gaussian'; take it out (path.coupled=null), or use "
            "objective.kind=denoising"
        )
    objective = build_objective(config)
    stepped = config.kind in ("hybrid", "vlb") and config.steps is None
    if stepped and not isinstance(path, ChainPath):
        raise RecipeError(
            f"objective.kind is {config.kind!r}, a bound of steps, and the path is {path}; give "
            "objective.steps=1000, or an unchanged path.kind=chain"
        )
    learns = config.kind == "hybrid" or (config.kind == "vlb" and config.variance == "learned")
    if learns and not model.learned_variance:
        raise RecipeError(
            f"objective.kind {config.kind!r} learns a variance, and model.learned_variance is "
            "false; set it true" + (", or objective.variance=posterior" * (config.kind == "vlb"))
        )
    if model.learned_variance and not learns:
        raise RecipeError(
            f"model.learned_variance is true, and objective.kind {config.kind!r} never trains it; "
            "use objective.kind=hybrid, or objective.kind=vlb with variance learned"
        )
    if config.kind in ("denoising", "score_matching", "maximum_likelihood"):
        _rehearse(objective, model.predicts, path, f"objective.kind {config.kind!r}")


def check_coupling(config: ObjectiveConfig, part: int) -> None:
    """Raise if a coupling has nothing to rearrange in parts of that many samples."""
    if config.kind == "denoising" and config.coupling.kind != "independent" and part < 2:
        raise RecipeError(
            f"objective.coupling {config.coupling.kind!r} rearranges the samples of a part of the "
            "batch, and train.batch / train.accumulate is 1; raise train.batch"
        )


class _Silent:
    """A field that predicts zero in one lens."""

    def __init__(self, lens: str, path: GaussianPath) -> None:
        self.lens, self.path = lens, path

    def __call__(self, x_t: Tensor, t: Tensor, condition: object = None) -> Prediction:
        return Prediction.of(self.lens, 0 * x_t, x_t, t, self.path)


def _rehearse(objective: Objective, lens: str, path: GaussianPath, what: str) -> None:
    """Raise if this objective cannot train a model of this lens on this path."""
    try:
        field: Any = _Silent(lens, path)
        objective(field, Batch(torch.zeros(8, 1)), Streams(0, range(8), "rehearsal"))
    except (InvalidArgument, Unsupported) as error:
        raise RecipeError(f"{what} with model.predicts={lens} on this path: {error}") from error
