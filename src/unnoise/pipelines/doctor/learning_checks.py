"""What the model has learned: loss by noise level, the condition, the average of the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...artifacts import Model
from ...recipes import guidance_text
from ...training import Ema
from .finding import Finding, Severity, check
from .patient import DEAD, Patient

LEARNED = 0.95  # of the trivial predictor's loss, at the best level
KNOWN = (0.25, 0.7)  # of what a linear predictor gains: fault, warning
USED = (0.02, 0.05)  # of the trivial error's size, between two conditions
BEGUN = 0.1  # share of the initial weights in the average


@check(
    "loss by level",
    needs=("data", "model"),
    sign_of=("learning rate", "data range", "data scale", "length"),
)
def loss_by_level(patient: Patient) -> Finding:
    """The loss by noise level against a predictor that knows mean and variance alone, and against
    the best linear predictor.

    At the ends there is little to gain, with no noise as with no signal, so the best level counts:
    there a model of data with any structure falls to a half and below within minutes. One that is
    within 5 % of the trivial predictor at every level has learned nothing. One that gains less than
    a quarter of what linear regression does has barely begun; one with less than 70 % should train
    on. A level at more than twice the trivial loss is spoiled by the model.
    """
    levels = patient.levels
    best = float((levels.loss + 3 * levels.error).min())
    linear_gain = float((1 - levels.linear).max())
    gain = float((1 - levels.loss).max())
    bad = [float(t) for t, r in zip(levels.t, levels.loss - 3 * levels.error, strict=True) if r > 2]
    numbers = {
        "t": levels.t.tolist(), "loss": levels.loss.tolist(), "error": levels.error.tolist(),
        "linear": levels.linear.tolist(), "held_out": patient.held_out,
    }  # fmt: skip
    at = float(levels.t[levels.loss.argmin()]) if best == best else float("nan")
    measured = (
        f"{1 - gain:.2f} of the trivial predictor's at the best level (t = {at:.2f}), a linear "
        f"predictor {1 - linear_gain:.2f}"
    )
    threshold = f"below {LEARNED} at the best level, and {KNOWN[1]:.0%} of the linear gain"
    severity: Severity = "fine"
    remedy = ""
    longer = "train longer (train.steps or train.budget), or with a larger network"
    if best != best or best == float("inf"):
        severity, remedy = "fault", "the model answers what is no number; lower the learning rate"
    elif bool((levels.loss > 1.5).all()):
        severity = "fault"
        remedy = "the model is worse than knowing nothing: lower the learning rate, train anew"
    elif best > LEARNED:
        if linear_gain < 0.1:  # nothing there that a linear predictor could find
            worse = bool((levels.loss - 3 * levels.error > 1.1).any())
            if worse:
                severity, remedy = "warning", longer
        else:
            severity = "fault"
            remedy = f"nothing has been learned: {longer}; look at learning rate and data scale"
    elif gain < KNOWN[0] * linear_gain:
        severity, remedy = "fault", f"linear regression does better by far: {longer}"
    elif gain < KNOWN[1] * linear_gain:
        severity, remedy = "warning", f"linear regression does better: {longer}"
    elif bad:
        severity = "warning"
        measured += f"; more than twice it at t = {', '.join(f'{t:.2f}' for t in bad)}"
        remedy = "use model.preconditioned=true or model.predicts=v, and train longer"
    return Finding("loss by level", severity, measured, threshold, remedy, numbers)


@check(
    "condition",
    needs=("data", "model"),
    sign_of=("loss by level", "learning rate", "data structure"),
)
def condition(patient: Patient) -> Finding:
    """What the class changes in the model's answer, and whether the right one helps.

    The answers with the right class and with another lie apart by a share of the size of the
    trivial predictor's error: where classes differ at all that is tenths at the noisy levels; below
    0.02 it is less than rounding in 8 bits can show. The loss with the right class must be lower
    than with another one, and than with none, by three standard errors at some level: answers that
    differ at random help nowhere.
    """
    recipe, classes = patient.recipe, patient.model.classes
    wanted = bool(recipe.sample.guidance)
    if classes < 2:
        said = "the model is unconditional" if classes == 0 else "there is one class only"
        return Finding("condition", "fine", said)
    levels = patient.levels
    if levels.effect is None or levels.wrong is None or levels.wrong_error is None:
        return Finding("condition", "not done", "the data that were opened have no labels")
    effect = float(levels.effect.max())
    gain = float(((levels.wrong - levels.loss) / levels.wrong_error.clamp(min=1e-12)).max())
    assert levels.null is not None
    assert levels.null_error is not None
    over = float(((levels.null - levels.loss) / levels.null_error.clamp(min=1e-12)).max())
    drop = float(getattr(recipe.objective, "drop", 0.0))
    told = _told_by_labels(patient)
    numbers = {
        "effect": levels.effect.tolist(), "loss": levels.loss.tolist(),
        "loss_wrong_class": levels.wrong.tolist(), "loss_no_class": levels.null.tolist(),
        "gain_in_errors": gain, "gain_over_none_in_errors": over, "drop": drop,
        "told_by_labels": told,
    }  # fmt: skip
    measured = (
        f"another class changes the answer by {effect:.3f} of the trivial error, and costs "
        f"{float((levels.wrong - levels.loss).max()):.3f} of its loss ({gain:.1f} errors; "
        f"over no class {over:.1f})"
    )
    threshold = f"{USED[1]} and 3 errors"
    if wanted and drop == 0:
        return Finding(
            "condition", "fault", f"guidance is {guidance_text(recipe.sample.guidance)}, and "
            "the condition was never dropped in training",
            "objective.drop above 0 where guidance is used",
            "train with objective.drop=0.1, or sample with --guidance 1", numbers,
        )  # fmt: skip
    if drop >= 0.95:
        return Finding(
            "condition", "fault", f"{drop:.0%} of the conditions were dropped in training; "
            f"{measured}", threshold,
            "train with objective.drop=0.1: what is dropped cannot be learned", numbers,
        )  # fmt: skip
    if told < 0.005 and gain < 3:
        return Finding(
            "condition", "fault", f"{measured}; the labels explain {told:.1%} of the variance of "
            "the data", threshold,
            "the labels say nothing about the data: check which label belongs to which sample "
            "(`unnoise data check`), or train with model.conditional=false", numbers,
        )  # fmt: skip
    if effect < USED[0] or gain < 3 or over < 3:
        return Finding(
            "condition", "fault", measured, threshold,
            "the class is ignored or of no help: train longer, with objective.drop=0.1", numbers,
        )  # fmt: skip
    if effect < USED[1]:
        return Finding(
            "condition", "warning", measured, threshold,
            "the class is hardly used: train longer, or sample with --guidance 2", numbers,
        )  # fmt: skip
    return Finding("condition", "fine", measured, threshold, numbers=numbers)


@check("average", needs=("model",))
def average(patient: Patient) -> Finding:
    """The averaged weights, which sampling uses, against those that were trained last.

    A good average is as good as the raw weights or better. One whose loss, over all levels, is half
    again as large, or that has learned nothing where they have, has not followed the training. The
    share that the initial weights still have in it is Π d_k over its decays; a tenth is seen.
    """
    updates, warm, share = _warmth(patient)
    numbers: dict[str, Any] = {"updates": updates, "warm": warm, "initial_share": share}
    measured = (
        f"{updates} updates, {'warm' if warm else 'not yet warm'}, {share:.0%} of it the initial "
        "weights"
    )
    threshold = f"{BEGUN:.0%} initial, {DEAD[1]} of the raw weights' loss"
    remedy = (
        "take a shorter average that starts at once, train.ema={kind: power, gamma: 6}, or train "
        "longer"
    )
    kept, raw = patient.levels_of(patient.average), patient.levels_of(patient.raw)
    severity: Severity = "fine"
    if kept is not None and raw is not None and patient.average and patient.raw:
        ratio = kept.mean / raw.mean
        numbers |= {"ratio": ratio, "distance": _distance(patient.average, patient.raw)}
        measured = f"loss {ratio:.2f} of that of the raw weights; {measured}"
        if patient.dead_average:
            severity, remedy = "fault", f"it has not followed the training: {remedy}"
        elif ratio > DEAD[1]:
            severity = "warning"
    elif share > BEGUN:
        severity = "fault"
    elif not warm:
        severity = "warning"
    return Finding(
        "average", severity, measured, threshold, remedy if severity != "fine" else "", numbers
    )


@torch.no_grad()
def _distance(average: Model, raw: Model) -> float:
    """|a − w| / |w| over all weights."""
    apart = size = 0.0
    weights = raw.denoiser.network.parameters()
    for a, w in zip(average.denoiser.network.parameters(), weights, strict=True):
        apart += float((a - w).square().sum())
        size += float(w.square().sum())
    return (apart / size) ** 0.5 if size else 0.0


def _warmth(patient: Patient) -> tuple[int, bool, float]:
    """(updates that the average took in, whether it has left its beginning, the share that the
    initial weights have in it)."""
    updates = patient.made
    config = patient.recipe.train.ema.model_dump(exclude={"kind"})
    like, share = Ema([nn.Parameter(torch.zeros(1))], **config), 1.0
    for k in range(updates):
        like.updates = k
        share *= like.rate()
        if share < 1e-6:
            break
    like.updates = updates
    return updates, like.warm and share <= BEGUN, share


def _told_by_labels(patient: Patient) -> float:
    """The share of the variance of the data that lies between classes, less what chance puts
    there."""
    x, labels = patient.train
    if labels is None:
        return 0.0
    flat = x.flatten(1).double()
    flat = flat - flat.mean(0)
    present = labels.unique()
    between = sum(
        int((labels == c).sum()) * float(flat[labels == c].mean(0).square().sum()) for c in present
    )
    chance = (len(present) - 1) / max(1, len(flat) - 1)
    return between / max(float(flat.square().sum()), 1e-30) - chance
