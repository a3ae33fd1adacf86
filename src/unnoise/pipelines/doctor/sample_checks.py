"""The samples against the data: finite, saturated, tinted, noisy, copied."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import NonFinite
from ...evaluation.memorisation import copies
from .finding import Finding, Severity, check
from .patient import NUMBERS, Patient, spread

TINT = (0.25, 0.75)  # of the data's deviation: warning, fault
SPREAD = (1.4, 2.5)  # factor between deviations: warning, fault
ENDS = (0.1, 0.4)  # share of values at the ends of the range, above the data's: warning, fault
NOISE = (0.15, 0.3)  # of the data's power, more of it off their directions: warning, fault
COPIES = (0.05, 0.3)  # share of the samples, above that of held-out data: warning, fault
POOL = 20_000  # training samples that copies are looked for in
_CAUSES = ("loss by level", "learning rate", "data range", "data scale", "data structure", "length")


@check("samples", needs=("data", "model"), sign_of=_CAUSES)
def samples(patient: Patient) -> Finding:
    """Mean and deviation by channel of the samples against data of the same classes, and how much
    of them lies at the ends of the range and off the directions in which data vary.

    Means of n samples scatter by the deviation of a sample's own mean / √n; three of these are
    allowed on top. A quarter of the deviation is a tint that is seen, three quarters another
    picture; guidance moves less. Noise has as much power in every direction, and data nearly all in
    a few: what samples have outside the leading ones, which hold 90 %, above what data have there,
    is noise left over. Of white noise that is the greater part.
    """
    try:
        made = patient.samples
    except NonFinite as error:
        return Finding(
            "samples", "fault", f"the walk broke down: {error}", "finite samples",
            "use more steps or another solver (--solver dpmpp_2m --steps 20), or train anew with "
            "a lower rate",
        )  # fmt: skip
    data = _like(patient, made.labels)
    x = made.x.double()
    axes = (0, *range(2, x.ndim))
    mean, spread = x.mean(axes), x.std(axes, correction=0)
    data_mean, data_spread = data.mean(axes), data.std(axes, correction=0).clamp(min=1e-6)
    each = x.flatten(2).mean(2) if x.ndim > 2 else x
    chance = 3 * each.std(0) / len(x) ** 0.5
    apart = (mean - data_mean).abs()
    tint = (apart - chance).clamp(min=0) / data_spread
    factor = torch.maximum(spread / data_spread, data_spread / spread.clamp(min=1e-12))
    low, high = patient.spec.value_range
    ends = _at_ends(made.values.double(), low, high) - _at_ends(
        patient.spec.restore(data.float()).double(), low, high
    )
    noise = _left_over(patient, x)
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
    measured = "; ".join(said for _, _, said in found)
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


@check("memorisation", needs=("data", "model"), sign_of=("data structure",))
def memorisation(patient: Patient) -> Finding:
    """The share of samples that are near copies of training data: see `evaluation.copies`.

    What the same rule says of held-out data is taken off: in few dimensions, and in data with
    repetitions, near copies come about by chance. A model that has learned the distribution has
    none above that; one in twenty is worth a look.
    """
    assert patient.parts is not None
    try:
        made = patient.samples
    except NonFinite as error:
        return Finding("memorisation", "not done", f"there are no samples: {error}")
    data = patient.parts["train"]
    rows = spread(data, POOL, 4 * NUMBERS)
    pool = data.spec.restore(data.batch(rows)[0], clip=False).flatten(1).numpy()
    if len(pool) < 3:
        return Finding("memorisation", "not done", f"there are {len(pool)} training samples")
    copied = float(copies(made.values.flatten(1).numpy(), pool).mean())
    if patient.held_out:
        fresh = patient.spec.restore(patient.fresh[0]).flatten(1).numpy()
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


def _like(patient: Patient, labels: Tensor | None) -> Tensor:
    """Training data in float64 with the classes of the samples: those of a class as often."""
    x, known = patient.train
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


def _left_over(patient: Patient, x: Tensor) -> float | None:
    """The power of samples off the directions that hold 90 % of that of the data, above that of
    data which those directions were not made from, in all of the data's power; None where data
    have no such directions."""
    linear, size = patient.linear, patient.train[0].flatten(1).shape[1]
    shares = linear.variances.cumsum(0) / (linear.variance * size)
    keep = int((shares < 0.9).sum()) + 1
    if keep >= min(len(shares), size) or keep > 0.75 * len(shares):
        return None
    fresh = patient.fresh[0] if patient.held_out else patient.train[0][1::2]
    above = linear.residue(x, keep).mean() - linear.residue(fresh, keep).mean()
    return float(above / linear.variance)
