"""Checks of what was learned: loss by noise level, use of the condition, average of the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...artifacts import Model
from ...recipes import guidance_text
from ...training import Ema
from .examined_run import FAILED_AVERAGE, RunSnapshot
from .finding import Finding, Severity, register_check

LEARNED = 0.95  # share of the trivial predictor's loss, at the best level
KNOWN = (0.25, 0.7)  # share of a linear predictor's gain: fault, warning
DROPPED = 0.95  # a share of dropped conditions above which a condition is not learned
USED = (0.02, 0.05)  # distance of two conditions' outputs over the trivial error: fault, warning
BEGUN = 0.1  # share of the initial weights in the average


@register_check(
    "loss by level",
    needs=("data", "model"),
    sign_of=("learning rate", "data range", "data scale", "length"),
)
def check_loss_by_level(snapshot: RunSnapshot) -> Finding:
    """Compare the loss by noise level with those of the trivial and the best linear predictor.

    The trivial predictor uses the data's mean and variance only. Little can be gained at both ends,
    without noise and without signal, so the best level counts: there a model of data with any
    structure falls to a half and below within minutes. One that is within 5 % of the trivial
    predictor at every level has learned nothing. One that gains less than a quarter of the linear
    predictor's gain has barely begun; one with less than 70 % should train on. A level at more than
    twice the trivial loss is spoiled by the model.
    """
    levels = snapshot.levels
    best = float((levels.loss + 3 * levels.error).min())
    linear_gain = float((1 - levels.linear).max())
    gain = float((1 - levels.loss).max())
    bad = [float(t) for t, r in zip(levels.t, levels.loss - 3 * levels.error, strict=True) if r > 2]
    numbers = {
        "t": levels.t.tolist(), "loss": levels.loss.tolist(), "error": levels.error.tolist(),
        "linear": levels.linear.tolist(), "held_out": snapshot.has_held_out,
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
        severity, remedy = (
            "fault",
            "the model's output is not finite: lower the learning rate, train anew",
        )
    elif bool((levels.loss > 1.5).all()):
        severity = "fault"
        remedy = (
            "the model is worse than the trivial predictor: lower the learning rate, train anew"
        )
    elif best > LEARNED:
        if linear_gain < 0.1:  # nothing that a linear predictor could find
            worse = bool((levels.loss - 3 * levels.error > 1.1).any())
            if worse:
                severity, remedy = "warning", longer
        else:
            severity = "fault"
            remedy = f"nothing has been learned: {longer}; check learning rate and data scale"
    elif gain < KNOWN[0] * linear_gain:
        severity, remedy = "fault", f"linear regression does better by far: {longer}"
    elif gain < KNOWN[1] * linear_gain:
        severity, remedy = "warning", f"linear regression does better: {longer}"
    elif bad:
        severity = "warning"
        measured += f"; more than twice it at t = {', '.join(f'{t:.2f}' for t in bad)}"
        remedy = "use model.preconditioned=true or model.predicts=v, and train longer"
    return Finding("loss by level", severity, measured, threshold, remedy, numbers)


@register_check(
    "condition",
    needs=("data", "model"),
    sign_of=("loss by level", "learning rate", "data structure"),
)
def check_condition(snapshot: RunSnapshot) -> Finding:
    """Measure how much the class changes the model's output, and whether the right one helps.

    The distance of the outputs with the right class and with another is a share of the trivial
    predictor's error: tenths at the noisy levels if classes differ at all; below 0.02 it is less
    than rounding to 8 bits. The loss with the right class must be lower than with another one, and
    than with none, by three standard errors at some level: differences at random help nowhere.
    """
    recipe, conditions = snapshot.recipe, snapshot.model.conditions
    wanted = bool(recipe.sample.guidance)
    if not conditions or (list(conditions) == ["class"] and snapshot.model.classes < 2):
        reason = "there is one class only" if conditions else "the model is unconditional"
        return Finding("condition", "fine", reason)
    levels = snapshot.levels
    if levels.effect is None or levels.wrong is None or levels.wrong_error is None:
        return Finding("condition", "not done", "the data that were opened have no labels")
    effect = float(levels.effect.max())
    gain = float(((levels.wrong - levels.loss) / levels.wrong_error.clamp(min=1e-12)).max())
    assert levels.null is not None
    assert levels.null_error is not None
    over = float(((levels.null - levels.loss) / levels.null_error.clamp(min=1e-12)).max())
    shares = [recipe.objective.dropout(name) for name in conditions]
    drop = max(shares) if max(shares) >= DROPPED else min(shares)
    between = _variance_between_classes(snapshot)
    numbers = {
        "effect": levels.effect.tolist(), "loss": levels.loss.tolist(),
        "loss_wrong_class": levels.wrong.tolist(), "loss_no_class": levels.null.tolist(),
        "gain_in_errors": gain, "gain_over_none_in_errors": over, "drop": drop,
        "told_by_labels": between,
    }  # fmt: skip
    measured = (
        f"another class changes the output by {effect:.3f} of the trivial error, and costs "
        f"{float((levels.wrong - levels.loss).max()):.3f} of its loss ({gain:.1f} errors; "
        f"over no class {over:.1f})"
    )
    threshold = f"{USED[1]} and 3 errors"
    if wanted and drop == 0:
        return Finding(
            "condition", "fault", f"guidance is {guidance_text(recipe.sample.guidance)}, and "
            "the condition was never dropped in training",
            "objective.condition_dropout above 0 where guidance is used",
            "train with objective.condition_dropout=0.1, or sample with --guidance 1", numbers,
        )  # fmt: skip
    if drop >= DROPPED:
        return Finding(
            "condition", "fault", f"{drop:.0%} of the conditions were dropped in training; "
            f"{measured}", threshold,
            "train with objective.condition_dropout=0.1: what is dropped cannot be learned",
            numbers,
        )  # fmt: skip
    if "class" in conditions and between < 0.005 and gain < 3:
        return Finding(
            "condition", "fault", f"{measured}; the labels explain {between:.1%} of the data's "
            "variance", threshold,
            "the labels explain nothing in the data: check which label belongs to which sample "
            "(`unnoise data check`), or train with model.conditional=false", numbers,
        )  # fmt: skip
    if effect < USED[0] or gain < 3 or over < 3:
        return Finding(
            "condition", "fault", measured, threshold,
            "the class is ignored or of no help: train longer, with "
            "objective.condition_dropout=0.1", numbers,
        )  # fmt: skip
    if effect < USED[1]:
        return Finding(
            "condition", "warning", measured, threshold,
            "the class is hardly used: train longer, or sample with --guidance 2", numbers,
        )  # fmt: skip
    return Finding("condition", "fine", measured, threshold, numbers=numbers)


@register_check("average", needs=("model",))
def check_average(snapshot: RunSnapshot) -> Finding:
    """Compare the averaged weights, which sampling uses, with the last trained weights.

    A good average is as good as the raw weights or better. One whose loss, over all levels, is half
    again as large, or that has learned nothing while they have, has not followed the training. The
    share of the initial weights in it is Π d_k over its decays; a tenth is visible in samples.
    """
    updates, warm, share = _warmth(snapshot)
    numbers: dict[str, Any] = {"updates": updates, "warm": warm, "initial_share": share}
    measured = (
        f"{updates} updates, {'warm' if warm else 'not yet warm'}, {share:.0%} of it the initial "
        "weights"
    )
    threshold = f"{BEGUN:.0%} initial, {FAILED_AVERAGE[1]} of the raw weights' loss"
    remedy = (
        "take a shorter average that starts at once, train.ema={kind: power, gamma: 6}, or train "
        "longer"
    )
    kept, raw = snapshot.levels_of(snapshot.average), snapshot.levels_of(snapshot.raw)
    severity: Severity = "fine"
    if kept is not None and raw is not None and snapshot.average and snapshot.raw:
        ratio = kept.mean / raw.mean
        numbers |= {"ratio": ratio, "distance": _distance(snapshot.average, snapshot.raw)}
        measured = f"loss {ratio:.2f} of that of the raw weights; {measured}"
        if snapshot.average_failed:
            severity, remedy = "fault", f"it has not followed the training: {remedy}"
        elif ratio > FAILED_AVERAGE[1]:
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
    """Return |a − w| / |w| over all weights."""
    apart = size = 0.0
    weights = raw.denoiser.network.parameters()
    for a, w in zip(average.denoiser.network.parameters(), weights, strict=True):
        apart += float((a - w).square().sum())
        size += float(w.square().sum())
    return (apart / size) ** 0.5 if size else 0.0


def _warmth(snapshot: RunSnapshot) -> tuple[int, bool, float]:
    """Return (updates in the average, whether it is warm, share of the initial weights in it)."""
    updates = snapshot.updates_made
    config = snapshot.recipe.train.ema.model_dump(exclude={"kind"})
    like, share = Ema([nn.Parameter(torch.zeros(1))], **config), 1.0
    for k in range(updates):
        like.updates = k
        share *= like.rate()
        if share < 1e-6:
            break
    like.updates = updates
    return updates, like.warm and share <= BEGUN, share


def _variance_between_classes(snapshot: RunSnapshot) -> float:
    """Return the share of the data's variance that lies between classes, less that of chance."""
    x, labels = snapshot.train
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
