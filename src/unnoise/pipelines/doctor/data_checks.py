"""Checks of the data: range, scale, and structure to learn."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...recipes import data_std
from .examined_run import PART, RunSnapshot, evenly_spaced_rows
from .finding import Finding, register_check

SCALE = (3.0, 10.0)  # warning, fault: a factor k moves every log-SNR by log k
USED = (0.5, 0.1)  # share of the declared range that is used
ROWS = 512  # for the correlations: enough to detect those above 0.1


@register_check("data range", needs=("data",))
def check_data_range(snapshot: RunSnapshot) -> Finding:
    """Compare the values with the declared range, and the data with those of the training.

    Samples are clipped to the range and shown by it: with a tenth of it used a picture has 25 grey
    levels and appears all black or grey. With normalisation "range" the model's input varies as
    little.
    """
    assert snapshot.parts is not None
    spec, data = snapshot.spec, snapshot.parts["train"]
    raw = data.spec.restore(data.batch(evenly_spaced_rows(data, PART)).x0, clip=False).float()
    low, high = float(raw.min()), float(raw.max())
    first, last = spec.value_range
    used = (high - low) / (last - first)
    numbers = {"measured": [low, high], "declared": [first, last], "used": used}
    measured = (
        f"values {low:g} to {high:g}, range {first:g} to {last:g}: {100 * used:.3g} % of it is used"
    )
    threshold = f"{USED[0]:.0%} of the range used, nothing outside"
    learned = snapshot.history.get("train_fingerprint") or snapshot.state.get("data")
    changed = learned is not None and learned != data.fingerprint()
    numbers["changed"] = changed
    slack = 1e-4 * (last - first)  # of rounding
    outside = low < first - slack or high > last + slack
    remedy = (
        f"declare the range that the values have (data.value_range=[{low:g}, {high:g}]) and train "
        "again; `unnoise data check` lists what is there"
    )
    if outside or used < USED[1]:
        return Finding("data range", "fault", measured, threshold, remedy, numbers)
    if changed:
        return Finding(
            "data range", "warning", f"{measured}; the data are not those trained on", threshold,
            "bring the data of the training back, or train on these", numbers,
        )  # fmt: skip
    if used < USED[0]:
        return Finding("data range", "warning", measured, threshold, remedy, numbers)
    return Finding("data range", "fine", measured, threshold, numbers=numbers)


@register_check("data scale", needs=("data",), sign_of=("data range",))
def check_data_scale(snapshot: RunSnapshot) -> Finding:
    """Compare mean and deviation of the normalised data, by channel, with the model's.

    A model expects mean 0 and its own `data_std`. The noise levels that matter span a few units of
    log-SNR on either side of the level at which noise and signal are of equal power. A deviation
    that is wrong by a factor of 3 moves the data by 1.1 in log-SNR, one of 10 by 2.3: then most of
    training goes to levels with nothing to learn. A mean of 2 deviations takes up as much as four
    fifths of the power of the input.
    """
    x = snapshot.train[0].double()
    wanted = data_std(snapshot.spec)
    by_channel = x.transpose(0, 1).flatten(1)
    mean, std = by_channel.mean(1), by_channel.std(1, correction=0)
    varies = std > 1e-6 * wanted
    numbers = {"mean": mean.tolist(), "std": std.tolist(), "expected_std": wanted}
    measured = f"mean {_span(mean)}, deviation {_span(std)} (expected 0 and {wanted:g})"
    threshold = f"deviation within a factor of {SCALE[0]:g}, mean within 2 deviations"
    if not bool(torch.isfinite(x).all()):
        where = int((~torch.isfinite(x)).flatten(1).any(1).nonzero()[0])
        return Finding(
            "data scale", "fault", f"sample {where} of those examined is not finite", threshold,
            "find such samples with `unnoise data check`, and remove or fill them", numbers,
        )  # fmt: skip
    remedy = "use data.normalisation=standardise, or declare the range that the values really have"
    total = float(std[varies].square().mean().sqrt()) / wanted if bool(varies.any()) else 0.0
    off = max(total, 1 / max(total, 1e-12))
    shift = float(mean.abs().max()) / wanted
    if off > SCALE[1] or shift > 5:
        return Finding("data scale", "fault", measured, threshold, remedy, numbers)
    dead = (~varies).nonzero().flatten().tolist()
    if dead:
        named = ", ".join(map(str, dead[:5])) + (" …" if len(dead) > 5 else "")
        return Finding(
            "data scale", "warning", f"{measured}; channels that never change: {named}", threshold,
            "leave those channels out: nothing can be learned of them", numbers,
        )  # fmt: skip
    weak = float(std.min()) / wanted
    if off > SCALE[0] or shift > 2 or weak < 1 / SCALE[1]:
        return Finding("data scale", "warning", measured, threshold, remedy, numbers)
    return Finding("data scale", "fine", measured, threshold, numbers=numbers)


@register_check("data structure", needs=("data",))
def check_data_structure(snapshot: RunSnapshot) -> Finding:
    """Measure whether the numbers of a sample depend on each other.

    The mean squared correlation, of values and of their squares, between numbers of a sample, of
    pairs at random and of neighbours, in units of the value for independent numbers (1/n).
    Independent numbers give 1 ± √(2/pairs); five deviations above that is structure, which
    pictures, signals and tables exceed tens to hundreds of times. Samples of fewer than 16 numbers
    are noise only if each number is normal too: independence alone is legitimate there.
    """
    x = snapshot.train[0][:ROWS].double()
    found = {"values": _ties(x), "squares": _ties(x.square())}
    surplus = max(value - bound for tie in found.values() for value, bound in tie)
    strongest = max(value for tie in found.values() for value, _ in tie)
    flat = x.flatten(1)
    few = flat.shape[1] < 16
    bent = 0.0
    if few:
        z = (flat - flat.mean(0)) / flat.std(0).clamp(min=1e-12)
        third, fourth = z.pow(3).mean(0), z.pow(4).mean(0) - 3
        chance = max(1.0, len(z)) ** 0.5
        bent = max(float(third.abs().max()) / 6**0.5, float(fourth.abs().max()) / 24**0.5) * chance
    numbers = {"ties": strongest, "surplus": surplus, "departure_from_normal": bent, "rows": len(x)}
    measured = f"numbers of a sample are tied {strongest:.3g} times as much as by chance"
    threshold = "more than by chance (1 and five deviations)"
    if surplus <= 0 and bent < 5:
        text = f"{measured}: the data look like noise"
        return Finding(
            "data structure", "fault", text + (", normal and white" if few else ""), threshold,
            "look at the data: pictures may be read in the wrong layout or type "
            "(`unnoise data check`); a model of noise gives noise", numbers,
        )  # fmt: skip
    return Finding("data structure", "fine", measured, threshold, numbers=numbers)


def _ties(x: Tensor) -> list[tuple[float, float]]:
    """Return (n · mean squared correlation, bound for independent numbers).

    One pair for pairs at random, then one for the neighbours along each axis.
    """
    flat = x.flatten(1)
    std = flat.std(0, correction=0)
    z = torch.where(std > 1e-9 * std.max().clamp(min=1e-12), (flat - flat.mean(0)) / std, 0.0)
    alive = (std > 1e-9 * std.max().clamp(min=1e-12)).nonzero().flatten()
    some = z[:, alive[torch.linspace(0, max(0, len(alive) - 1), min(256, len(alive))).long()]]
    n, out = len(z), []
    if some.shape[1] > 1:
        r = (some.T @ some / n).fill_diagonal_(0)
        pairs = some.shape[1] * (some.shape[1] - 1)
        out.append((n * float(r.square().sum()) / pairs, _chance(pairs // 2)))
    shaped = z.reshape(x.shape)
    for axis in range(1, x.ndim):
        if x.shape[axis] > 1:
            a, b = (
                shaped.narrow(axis, 0, x.shape[axis] - 1),
                shaped.narrow(axis, 1, x.shape[axis] - 1),
            )
            r = (a * b).mean(0).flatten()
            r = r[r != 0]
            if len(r):
                out.append((n * float(r.square().mean()), _chance(len(r))))
    return out or [(0.0, 1.0)]


def _chance(pairs: int) -> float:
    return 1 + 5 * math.sqrt(2 / pairs) + (4 if pairs < 10 else 0)


def _span(numbers: Tensor) -> str:
    low, high = float(numbers.min()), float(numbers.max())
    return f"{low:.3g}" if len(numbers) == 1 else f"{low:.3g} to {high:.3g}"
