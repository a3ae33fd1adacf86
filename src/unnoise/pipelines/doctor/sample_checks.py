"""Checks of the samples against the data: finite, saturated, tinted, noisy, copied."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import NonFinite
from ...evaluation.memorisation import copies
from .examined_run import NUMBERS, RunSnapshot, evenly_spaced_rows
from .finding import Finding, Severity, register_check

TINT = (0.25, 0.75)  # shift of a mean over the data's deviation: warning, fault
SPREAD = (1.4, 2.5)  # factor between deviations: warning, fault
ENDS = (0.1, 0.4)  # share of values at the ends of the range, above the data's: warning, fault
NOISE = (0.15, 0.3)  # excess power off the data's directions over all power: warning, fault
COPIES = (0.05, 0.3)  # share of the samples, above that of held-out data: warning, fault
POOL = 20_000  # training samples that are searched for copies
_CAUSES = ("loss by level", "learning rate", "data range", "data scale", "data structure", "length")


@register_check("samples", needs=("data", "model"), sign_of=_CAUSES)
def check_samples(snapshot: RunSnapshot) -> Finding:
    """Compare the samples with data of the same classes: mean, deviation, ends, left-over noise.

    Means and deviations are by channel; ends: the share of values at the ends of the range. Means
    of n samples scatter by the deviation of a sample's own mean / √n; three of these are allowed on
    top. A quarter of the data's deviation is a visible tint, three quarters another picture;
    guidance moves less. Noise has as much power in every direction, and data nearly all in a few:
    the samples' power outside the leading directions, which hold 90 % of the data's, in excess of
    the data's own there, is noise left over. Of white noise that is the greater part.
    """
    try:
        made = snapshot.samples
    except NonFinite as error:
        return Finding(
            "samples", "fault", f"sampling broke down: {error}", "finite samples",
            "use more steps or another solver (--solver dpmpp_2m --steps 20), or train anew with "
            "a lower rate",
        )  # fmt: skip
    data = _of_same_classes(snapshot, made.labels)
    x = made.x.double()
    axes = (0, *range(2, x.ndim))
    mean, spread = x.mean(axes), x.std(axes, correction=0)
    data_mean, data_spread = data.mean(axes), data.std(axes, correction=0).clamp(min=1e-6)
    each = x.flatten(2).mean(2) if x.ndim > 2 else x
    chance = 3 * each.std(0) / len(x) ** 0.5
    apart = (mean - data_mean).abs()
    tint = (apart - chance).clamp(min=0) / data_spread
    factor = torch.maximum(spread / data_spread, data_spread / spread.clamp(min=1e-12))
    low, high = snapshot.spec.value_range
    ends = _at_ends(made.values.double(), low, high) - _at_ends(
        snapshot.spec.restore(data.float()).double(), low, high
    )
    noise = _leftover_noise(snapshot, x)
    numbers = {
        "mean": mean.tolist(), "data_mean": data_mean.tolist(), "std": spread.tolist(),
        "data_std": data_spread.tolist(), "at_ends_above_data": ends, "noise": noise, "n": len(x),
    }  # fmt: skip
    found = [
        (
            float(tint.max()),
            TINT,
            f"tint {float((apart / data_spread).max()):.2f} of the deviation",
        ),
        (float(factor.max()), SPREAD, f"deviation off by a factor of {float(factor.max()):.2f}"),
        (ends, ENDS, f"{max(0.0, ends):.0%} more at the ends of the range than the data"),
    ]
    if noise is not None:
        found.append((noise, NOISE, f"{max(0.0, noise):.1%} of the power is left-over noise"))
    measured = "; ".join(text for _, _, text in found)
    threshold = f"{TINT[0]}, {SPREAD[0]}, {ENDS[0]:.0%}, {NOISE[0]:.0%}"
    remedy = (
        "train longer; lower the guidance (--guidance 1) where colours are strong or the ends are "
        "hit; more steps where noise is left over (--steps 20)"
    )
    if any(not value <= bounds[1] for value, bounds, _ in found):
        return Finding("samples", "fault", measured, threshold, remedy, numbers)
    if any(value > bounds[0] for value, bounds, _ in found):
        return Finding("samples", "warning", measured, threshold, remedy, numbers)
    return Finding("samples", "fine", measured, threshold, numbers=numbers)


@register_check("memorisation", needs=("data", "model"), sign_of=("data structure",))
def check_memorisation(snapshot: RunSnapshot) -> Finding:
    """Measure the share of samples that are near copies of training data.

    The rule is that of `evaluation.copies`. Its share for held-out data is subtracted: in few
    dimensions, and in data with repetitions, near copies come about by chance. A model that has
    learned the distribution has none above that; one in twenty deserves a closer inspection.
    """
    assert snapshot.parts is not None
    try:
        made = snapshot.samples
    except NonFinite as error:
        return Finding("memorisation", "not done", f"there are no samples: {error}")
    data = snapshot.parts["train"]
    rows = evenly_spaced_rows(data, POOL, 4 * NUMBERS)
    pool = data.spec.restore(data.batch(rows).x0, clip=False).flatten(1).numpy()
    if len(pool) < 3:
        return Finding("memorisation", "not done", f"there are {len(pool)} training samples")
    copied = float(copies(made.values.flatten(1).numpy(), pool).mean())
    if snapshot.has_held_out:
        fresh = snapshot.spec.restore(snapshot.unseen[0]).flatten(1).numpy()
        chance = float(copies(fresh, pool).mean())
    else:
        chance = (1 / 3) ** pool.shape[1]
    numbers = {"copies": copied, "chance": chance, "n": len(made.values), "train": len(pool)}
    measured = (
        f"{copied:.1%} of {len(made.values)} samples are near copies (held-out data {chance:.1%})"
    )
    over = copied - chance - 3 * (chance * (1 - chance) / len(made.values)) ** 0.5
    severity: Severity = "fault" if over > COPIES[1] else "warning" if over > COPIES[0] else "fine"
    remedy = (
        ""
        if severity == "fine"
        else "train on more data, for a shorter time, or with a smaller network"
    )
    return Finding(
        "memorisation",
        severity,
        measured,
        f"{COPIES[0]:.0%} above held-out data",
        remedy,
        numbers,
    )


def _of_same_classes(snapshot: RunSnapshot, labels: Tensor | None) -> Tensor:
    """Return training data in float64 with the samples' classes, each class equally often."""
    x, known = snapshot.train
    x = x.double()
    if labels is None or known is None:
        return x
    present = [c for c in labels.unique().tolist() if bool((known == c).any())]
    most = max((int((known == c).sum()) for c in present), default=0)
    if not present or most == 0:
        return x
    rows = [(known == c).nonzero().flatten() for c in present]
    return x[torch.cat([r.repeat(-(-most // len(r)))[:most] for r in rows])]


def _at_ends(values: Tensor, low: float, high: float) -> float:
    margin = 0.01 * (high - low)
    return float(((values <= low + margin) | (values >= high - margin)).double().mean())


def _leftover_noise(snapshot: RunSnapshot, x: Tensor) -> float | None:
    """Return the samples' excess power off the data's leading directions, over all data power.

    The leading directions hold 90 % of the data's power; the excess is over data from which they
    were not fitted. None if the data have no such directions.
    """
    linear, size = snapshot.linear, snapshot.train[0].flatten(1).shape[1]
    shares = linear.variances.cumsum(0) / (linear.variance * size)
    keep = int((shares < 0.9).sum()) + 1
    if keep >= min(len(shares), size) or keep > 0.75 * len(shares):
        return None
    fresh = snapshot.unseen[0] if snapshot.has_held_out else snapshot.train[0][1::2]
    above = linear.power_outside(x, keep).mean() - linear.power_outside(fresh, keep).mean()
    return float(above / linear.variance)
