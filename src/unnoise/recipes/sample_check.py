"""Whether a model can be sampled as a section asks: one check for recipes, calls and commands."""

from __future__ import annotations

from dataclasses import dataclass

from ..solvers import Solver
from .sample_section import SampleConfig, guidance_text


@dataclass(frozen=True)
class Abilities:
    """What a model offers to its sampling.

    conditional: whether it has a condition; null: whether the null of every one was trained;
    learned_variance: whether it predicts variances; lack: why it has no condition; names: of its
    conditions, None where they are not known yet; never_null: those whose null was not trained.
    """

    conditional: bool
    null: bool
    learned_variance: bool
    lack: str = "the model has no condition to be guided by"
    names: tuple[str, ...] | None = None
    never_null: tuple[str, ...] = ()


def why_unsupported(config: SampleConfig, solver: Solver, able: Abilities) -> str | None:
    """Return why a model cannot be sampled so, with the remedy; None where it can."""
    said = guidance_text(config.guidance)
    if config.guidance and not able.conditional:
        return (
            f"guidance {said} was asked for, and {able.lack}; leave it out (sample.guidance=1 in a "
            "recipe), or train on labelled data with model.conditional=true"
        )
    if any(section.idle for section in config.guidance):
        return (
            "an interval or a rescale was given, and the guidance is 1, so that nothing is guided; "
            "leave it out, or give a guidance such as 1.5 (sample.guidance=1.5 in a recipe)"
        )
    if config.guidance and not able.null:
        return f"guidance {said} " + without_null("sample with guidance 1 (sample.guidance=1)")
    for section in config.guidance if able.names is not None else ():
        for name in section.names:
            if name not in (able.names or ()):
                return (
                    f"guidance by {name!r} was asked for, and the model's conditions are "
                    f"{', '.join(able.names or ())}; name one of them"
                )
    if solver.needs_learned_variance and not able.learned_variance:
        return (
            f"solver {config.solver!r} needs the model's own variance, and this model learned no "
            "variance (model.learned_variance is false); use ddpm or ddpm:variance=transition, or "
            "train with model.learned_variance=true"
        )
    return None


def without_null(remedy: str) -> str:
    """Return why a model that never dropped its condition in training has no null condition."""
    return (
        "needs the null condition, and the model is trained with objective.condition_dropout=0, so "
        f"that it never learns one; {remedy}, or train with objective.condition_dropout=0.1"
    )
