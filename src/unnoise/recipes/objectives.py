"""The sections of a recipe's objective, one a kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ..objectives.dropout import dropout_of
from .section import Few, Positive, Section, Steps, kind_or, named


# ── times and weights ────────────────────────────────────────────────────────────────────────
class UniformTimes(Section):
    kind: Literal["uniform"] = "uniform"
    stratified: bool = True


class ChainTimes(Section):
    kind: Literal["chain"]
    stratified: bool = True


class NormalTimes(Section):
    kind: Literal["log_normal", "logit_normal"]
    stratified: bool = True
    mean: float | None = None
    std: Positive | None = None


class LadderTimes(Section):
    kind: Literal["ladder"]
    stratified: bool = True
    levels: Annotated[int, Field(ge=2, strict=True)] | None = 10
    sigma_min: Positive | None = None
    sigma_max: Positive | None = None


class OneLevelTimes(Section):
    kind: Literal["one_level"]
    sigma: Annotated[float, Field(ge=0)] = 1.0


TimesConfig = Annotated[
    Annotated[
        UniformTimes | ChainTimes | NormalTimes | LadderTimes | OneLevelTimes,
        Field(discriminator="kind"),
    ],
    BeforeValidator(kind_or("uniform")),
]


class HistoryTimes(Section):
    """Steps drawn in proportion to the root of their mean squared loss: `LossHistory`."""

    kind: Literal["loss_history"]
    keep: Few = 10
    uniform: Annotated[float, Field(gt=0, le=1)] = 0.001


StepTimesConfig = Annotated[
    Annotated[UniformTimes | HistoryTimes, Field(discriminator="kind")],
    BeforeValidator(kind_or("uniform")),
]
WeightName = Literal[
    "simple", "snr", "x0", "v", "velocity", "score", "truncated_snr", "min_snr", "edm", "sigmoid",
    "likelihood",
]  # fmt: skip


# ── couplings ────────────────────────────────────────────────────────────────────────────────
class IndependentCoupling(Section):
    kind: Literal["independent"] = "independent"


class OptimalCoupling(Section):
    """Minibatch optimal transport, inside groups of equal classes; entropy 0: exact."""

    kind: Literal["optimal"]
    entropy: Annotated[float, Field(ge=0)] = 0.0


CouplingConfig = Annotated[
    Annotated[IndependentCoupling | OptimalCoupling, Field(discriminator="kind")],
    BeforeValidator(named),
    BeforeValidator(kind_or("independent")),
]


# ── kinds ────────────────────────────────────────────────────────────────────────────────────
def _shares(given: Any) -> float | dict[str, float]:
    shares = list(given.values()) if isinstance(given, Mapping) else [given]
    for share in shares:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError(
                "give a share from 0 to 1 for all conditions, or one by name, such as "
                "{class: 0.1, age: 0.2}"
            )
    return given


class ObjectiveBase(Section):
    """Keys of every objective.

    condition_dropout: the share of samples trained on the null of a condition, one for all
    conditions or by name; a name that is left out is never dropped.
    """

    condition_dropout: Annotated[Any, AfterValidator(_shares)] = 0.1

    def dropout(self, name: str) -> float:
        """Return the share of samples trained on the null of one condition."""
        return dropout_of(self.condition_dropout, name)


class DenoisingObjective(ObjectiveBase):
    """The regression of the model's lens: `objectives.Denoising`.

    coupling optimal needs a coupled path: `couple` puts the recipe's on one.
    """

    kind: Literal["denoising"] = "denoising"
    weight: WeightName = "velocity"
    weight_parameter: float | None = None
    times: TimesConfig = UniformTimes()
    coupling: CouplingConfig = IndependentCoupling()


class HybridObjective(ObjectiveBase):
    """Denoising + scale·bound, for a learned variance: `objectives.Variational`."""

    kind: Literal["hybrid"]
    weight: WeightName = "simple"
    weight_parameter: float | None = None
    scale: Positive = 0.001
    steps: Steps | None = None
    times: StepTimesConfig = UniformTimes()


class VlbObjective(ObjectiveBase):
    """The variational bound itself: `objectives.Variational`."""

    kind: Literal["vlb"]
    variance: Literal["learned", "posterior", "transition"] = "learned"
    steps: Steps | None = None
    times: StepTimesConfig = UniformTimes()


class ScoreMatchingObjective(ObjectiveBase):
    """Score matching without a target: `objectives.score_matching`.

    Null keys take the method's own defaults; keys of other methods are refused.
    """

    kind: Literal["score_matching"]
    method: Literal["implicit", "sliced", "finite_difference"] = "sliced"
    weight: WeightName = "simple"
    weight_parameter: float | None = None
    times: TimesConfig = UniformTimes()
    projections: Few | None = None
    distribution: Literal["rademacher", "gaussian"] | None = None
    variance_reduced: bool | None = None
    step: Positive | None = None

    @model_validator(mode="after")
    def _own_keys(self) -> ScoreMatchingObjective:
        for key, methods in METHODS_WITH.items():
            if getattr(self, key) is not None and self.method not in methods:
                raise ValueError(
                    f"method {self.method!r} has no {key}; take {key} out ({key}=null), or give "
                    f"method={' or method='.join(methods)}"
                )
        return self


METHODS_WITH = {
    "projections": ("sliced", "finite_difference"),
    "distribution": ("sliced", "finite_difference"),
    "variance_reduced": ("sliced",),
    "step": ("finite_difference",),
}


class MaximumLikelihoodObjective(ObjectiveBase):
    """A continuous flow trained by its own likelihood: `objectives.MaximumLikelihood`.

    Needs a coupled path: `couple` puts the recipe's on one.
    """

    kind: Literal["maximum_likelihood"]
    steps: Few = 8
    tableau: Literal[
        "euler", "heun", "midpoint", "ralston", "kutta3", "rk4", "bogacki_shampine"
    ] = "rk4"
    trace: Literal["exact", "hutchinson"] = "exact"


def asks_for_coupling(objective: Any) -> str | None:
    """Return the key of an objective's section that needs a path with coupled ends, or None."""
    if not isinstance(objective, Mapping):
        return None
    kind, coupling = objective.get("kind", "denoising"), objective.get("coupling")
    if kind == "maximum_likelihood":
        return "objective.kind=maximum_likelihood"
    chosen = coupling.get("kind") if isinstance(coupling, Mapping) else coupling
    return "objective.coupling=optimal" if (kind, chosen) == ("denoising", "optimal") else None


def couple(recipe: Any) -> Any:
    """Return a recipe's tree with path.coupled=gaussian if its objective needs that.

    A path.coupled that is given stays.
    """
    if not (isinstance(recipe, Mapping) and asks_for_coupling(recipe.get("objective"))):
        return recipe
    path = recipe.get("path")
    if not isinstance(path, Mapping) or "coupled" in path:
        return recipe
    return {**recipe, "path": {**path, "coupled": "gaussian"}}


ObjectiveConfig = Annotated[
    Annotated[
        DenoisingObjective
        | HybridObjective
        | VlbObjective
        | ScoreMatchingObjective
        | MaximumLikelihoodObjective,
        Field(discriminator="kind"),
    ],
    BeforeValidator(kind_or("denoising")),
]
