"""Checks of the run's history: files, learning rate, gradients, skipped updates, length."""

from __future__ import annotations

import math
import statistics
from typing import Any

import torch

from ...recipes import build_denoiser
from .examined_run import RunSnapshot
from .finding import Finding, Severity, register_check

ROSE = (1.5, 3.0)  # loss at the end over the lowest loss: warning, fault
PEAK = 3.0  # highest loss over the first loss
MOVED = (1e-3, 30.0)  # distance of the weights from the start, over their size there
SKIPPED = (0.01, 0.1)  # share of the updates: warning, fault
SHORT = (30, 100)  # updates: fault; warning if the log is too short to judge the loss


@register_check("files")
def check_files(snapshot: RunSnapshot) -> Finding:
    """Check that the model and the checkpoints can be read; every hash is verified."""
    if snapshot.broken:
        remedy = f"finish it again from its checkpoint: unnoise train --resume --out {snapshot.run}"
        if snapshot.raw is None:
            remedy = "copy the folder again, or train anew"
        return Finding("files", "fault", snapshot.notes[0], "whole files", remedy)
    if snapshot.notes:
        return Finding(
            "files", "warning", "; ".join(snapshot.notes), "whole files",
            "nothing is lost while an older checkpoint is sound; check the disk",
        )  # fmt: skip
    if snapshot.average is None and not snapshot.state:
        return Finding(
            "files", "warning", snapshot.missing.get("model", "there is no model"),
            "a model or a checkpoint", "train until the first checkpoint (train.checkpoint=1m)",
        )  # fmt: skip
    return Finding("files", "fine", "model" if snapshot.history else "checkpoint")


@register_check("learning rate", needs=("log",), sign_of=("data scale",))
def check_learning_rate(snapshot: RunSnapshot) -> Finding:
    """Judge the learning rate by the course of the loss and the distance that the weights moved.

    The loss of a run that learns falls and stays low: medians of three lines of the log, each the
    mean of some twenty updates, scatter by less than a tenth. A loss that ends at 1.5 times its
    lowest value has turned; one that ends at three times, or was three times its first value on the
    way, has diverged. Weights that have grown thirtyfold, without the loss falling, were thrown
    about; weights that moved by less than a thousandth were not trained. A loss that is known up to
    a constant, or below 0, has no ratios: its end may lie above the lowest by at most three times
    the size of the two.
    """
    losses = _column(snapshot, "loss")
    state = snapshot.guard
    moved = _moved(snapshot)
    back = int(state.get("rollbacks", 0))
    numbers: dict[str, Any] = {"moved": moved, "rollbacks": back}
    smooth = _smooth(losses)
    if len(smooth) < 2 and not any(row["kind"] in ("rollback", "stopped") for row in snapshot.rows):
        return Finding(
            "learning rate", "not done", f"the log has {len(losses)} lines of training; 4 are "
            "needed to judge the course of the loss", numbers=numbers,
        )  # fmt: skip
    first, last = (losses[0], smooth[-1]) if smooth else (math.nan, math.nan)
    lowest, highest = min(smooth, default=math.nan), max(losses, default=math.nan)
    start = float(state.get("scale") or first)  # loss of the initial weights, if stored
    trivial = snapshot.baseline_loss
    numbers |= {"first": first, "last": last, "lowest": lowest, "highest": highest}
    numbers |= {"start": start, "trivial": trivial}
    measured = f"loss {start:.4g} at the start, {highest:.4g} at most, {last:.4g} at the end"
    measured += f" (trivial {trivial:.4g})" if trivial is not None else ""
    if moved is not None:
        measured += f"; the weights moved by {moved:.3g} of their size"
    threshold = f"an end below {ROSE[0]:g} times the best, no rise by {PEAK:g} on the way"
    lower = "lower train.optimizer.rate by a factor of 3 to 10"
    poor = last > 0.7 * (start if trivial is None else trivial)
    severity: Severity = "fine"
    remedy = ""
    shifted = snapshot.recipe.objective.kind in ("score_matching", "maximum_likelihood")
    if shifted or not (start > 0 and lowest > 0):  # ratios would mean nothing
        if last - lowest > PEAK * max(first - lowest, abs(first) + abs(lowest)):
            severity, remedy = "fault", f"training diverged: {lower}, and keep train.clip=1"
    elif last > ROSE[1] * lowest or (poor and (highest > PEAK * start or last > ROSE[0] * lowest)):
        severity, remedy = "fault", f"training diverged: {lower}, and keep train.clip=1"
    elif poor and moved is not None and moved > MOVED[1]:
        severity, remedy = "fault", f"the weights are thrown about: {lower}"
    elif poor and moved is not None and moved < MOVED[0]:
        severity, remedy = "fault", "the weights hardly moved: raise train.optimizer.rate tenfold"
    elif last > ROSE[0] * lowest or highest > PEAK * start:
        severity, remedy = "warning", f"the loss rose on the way: {lower}"
    stops = [row for row in snapshot.rows if row["kind"] == "stopped"]
    if stops and "rate is too high" in str(stops[-1].get("why")):
        severity, remedy = "fault", f"training broke down: {lower}, and keep train.clip=1"
        measured += f"; it stopped at update {stops[-1]['step']}"
    if back and severity != "fault":
        severity, remedy = "warning", f"the run went back {back} times: {lower}"
    if back:
        measured += f"; went back {back} times"
    return Finding("learning rate", severity, measured, threshold, remedy, numbers)


@register_check("gradients", needs=("log",), sign_of=("learning rate", "data scale"))
def check_gradients(snapshot: RunSnapshot) -> Finding:
    """Judge the norm of the gradient before clipping.

    Muon and Adam do not depend on its size, so clipping at every update does no harm; a norm that
    is thirty times the limit throughout, or ends a hundred times above its median, is a sign of
    another fault. A norm below 1e-6 carries nothing in float32.
    """
    norms = _column(snapshot, "gradient_norm")
    limit = snapshot.recipe.train.clip
    if len(norms) < 4:
        return Finding("gradients", "not done", f"the log has {len(norms)} lines of training")
    middle, last = statistics.median(norms), statistics.median(norms[-3:])
    clipped = sum(norm > limit for norm in norms) / len(norms) if limit else 0.0
    numbers = {"median": middle, "last": last, "highest": max(norms), "clipped": clipped}
    measured = f"norm {middle:.3g} (median), {last:.3g} at the end"
    measured += (
        f"; above the limit {limit:g} in {clipped:.0%} of the log" if limit else "; no limit"
    )
    threshold = "between 1e-6 and 30 times the limit, no growth by 100"
    severity: Severity = "fine"
    remedy = ""
    if middle < 1e-6:
        severity = "fault"
        remedy = "no gradient reaches the weights: check the data scale and objective.weight"
    elif last > 100 * middle:
        severity, remedy = "warning", "the gradient grew: lower train.optimizer.rate"
    elif limit and middle > 30 * limit:
        severity = "warning"
        remedy = f"clipping is all there is: check the data scale, or set train.clip={middle:.0f}"
    return Finding("gradients", severity, measured, threshold, remedy, numbers)


@register_check("skipped updates", sign_of=("learning rate", "data scale"))
def check_skipped_updates(snapshot: RunSnapshot) -> Finding:
    """Count the updates that were skipped since a loss or a gradient was not finite.

    One in a hundred costs nothing; one in ten is a fault of the data or of the rate.
    """
    logged = [row for row in snapshot.rows if row["kind"] == "skipped"]
    skipped = max(int(snapshot.guard.get("skipped", 0)), len(logged))
    updates = max(1, snapshot.updates, snapshot.updates_made + skipped)
    alone = [row["row"] for row in logged if row.get("row") is not None and not row.get("every")]
    rows = sorted(set(alone))
    share = skipped / updates
    numbers = {"skipped": skipped, "updates": updates, "rows": rows[:20]}
    measured = f"{skipped} of {updates}"
    threshold = f"{SKIPPED[0]:.0%}"
    if not skipped:
        return Finding("skipped updates", "fine", measured, threshold, numbers=numbers)
    remedy = "lower train.optimizer.rate, or use train.precision=fp32"
    severity: Severity = (
        "fault" if share > SKIPPED[1] else "warning" if share > SKIPPED[0] else "fine"
    )
    if rows and len(alone) >= max(2 * len(rows), len(logged) // 2):
        severity = "fault" if severity == "fault" else "warning"
        named = ", ".join(map(str, rows[:5]))
        measured += f", all for samples {named} of the training part"
        remedy = "look at these samples (`unnoise data check`) and mend or remove them"
    return Finding("skipped updates", severity, measured, threshold, remedy, numbers)


@register_check("length", sign_of=("learning rate",))
def check_length(snapshot: RunSnapshot) -> Finding:
    """Judge whether the run was long enough, and whether its loss was still falling.

    Below 30 updates a network has hardly left its initial weights. A loss whose last fifth lies
    10 % below the fifth before it would fall further; if the log is too short to judge, 100
    updates are few for any data.
    """
    updates = snapshot.updates_made
    seen = int(snapshot.state.get("seen") or snapshot.history.get("samples_seen") or 0)
    samples = len(snapshot.parts["train"]) if snapshot.parts else None
    losses = _column(snapshot, "loss")
    fall = None
    if len(losses) >= 10:
        fifth = len(losses) // 5
        last, before = (statistics.fmean(p) for p in (losses[-fifth:], losses[-2 * fifth : -fifth]))
        fall = 1 - last / before if before > 0 else None
    epochs = seen / samples if samples and seen else None
    numbers = {"updates": updates, "epochs": epochs, "fall": fall}
    measured = f"{updates} updates"
    measured += "" if epochs is None else f", {epochs:.3g} times through the data"
    measured += "" if fall is None else f"; the loss fell by {max(0.0, fall):.1%} in the last fifth"
    threshold = f"{SHORT[1]} updates, a fall below 10 % at the end"
    remedy = "train longer: a larger train.steps or train.budget (with --resume to go on)"
    severity: Severity = "fine"
    if updates < SHORT[0]:
        severity = "fault"
    elif (updates < SHORT[1] and fall is None) or (fall is not None and fall > 0.1):
        severity = "warning"
    return Finding(
        "length", severity, measured, threshold, remedy if severity != "fine" else "", numbers
    )


def _column(snapshot: RunSnapshot, name: str) -> list[float]:
    """Return one number of each training line of the log, without updates that were undone."""
    kept: list[dict[str, Any]] = []
    for row in snapshot.rows:
        if row["kind"] == "rollback":
            kept = [r for r in kept if r["step"] <= row.get("to", row["step"])]
        elif row["kind"] == "train":
            kept.append(row)
    numbers = [row.get(name) for row in kept]
    return [float(v) for v in numbers if isinstance(v, int | float) and math.isfinite(v)]


def _smooth(values: list[float]) -> list[float]:
    """Return running medians of three."""
    return [statistics.median(values[i : i + 3]) for i in range(len(values) - 2)]


@torch.no_grad()
def _moved(snapshot: RunSnapshot) -> float | None:
    """Return |w − w₀| / |w₀| over the matrices of the network, w₀ their initial values."""
    if snapshot.raw is None:
        return None
    recipe, raw = snapshot.recipe, snapshot.raw
    fresh = build_denoiser(recipe.path, recipe.network, recipe.model, raw.spec, recipe.train.seed)
    apart = size = 0.0
    begun = dict(fresh.network.named_parameters())
    for name, weight in raw.denoiser.network.named_parameters():
        if weight.ndim > 1:
            apart += float((weight - begun[name]).square().sum())
            size += float(begun[name].square().sum())
    return (apart / size) ** 0.5 if size else None
